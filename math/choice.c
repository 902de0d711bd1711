#include "math/verdict.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

enum { MAX_CHOICE = 96 };

/* The front of the text without mark-up: \text{}, \mathrm{}, bold, $, braces; blanks stay. Into
 * out[MAX_CHOICE], with a NUL. */
static size_t copy_plain(char *out, struct span text)
{
    static const char *const marks[] = {"\\textbf", "\\textrm", "\\text", "\\mathrm", "\\mathbf",
        "\\mbox", "\\operatorname", "\\boxed", "\\left", "\\right", "\\(", "\\)", "\\ ", "**",
        "{", "}", "$", "\"", "\\,"};
    size_t n = 0;

    text = fold_trim(text);
    for (size_t i = 0; i < text.length;) {
        size_t step = 0;

        for (size_t k = 0; k < sizeof(marks) / sizeof(marks[0]) && !step; k++)
            if (span_starts((struct span){text.data + i, text.length - i}, marks[k]))
                step = strlen(marks[k]);
        if (!step) {
            if (n + 1 >= MAX_CHOICE)
                break;   /* what matters stands in front */
            if (n || text.data[i] != ' ')
                out[n++] = text.data[i];
            step = 1;
        }
        i += step;
    }
    while (n && strchr(" .", out[n - 1]))
        n--;
    out[n] = 0;
    return n;
}

static int is_choice_letter(char c)
{
    return c >= 'A' && c <= 'J';
}

/* Letters with nothing but commas, blanks, "and" between, to the end. */
static unsigned read_letters(const char *text, int must_ascend)
{
    unsigned bits = 0, last = 0;

    while (*text) {
        if (is_choice_letter(*text)) {
            unsigned bit = 1u << (*text - 'A');

            if ((bits & bit) || (must_ascend && bit < last))
                return 0;
            bits |= bit;
            last = bit;
            text++;
        } else if (strchr(" ,;()", *text)) {
            text++;
        } else if (strncmp(text, "and ", 4) == 0) {
            text += 4;
        } else {
            return 0;
        }
    }
    return bits;
}

unsigned choice_of_gold(struct span gold)
{
    char text[MAX_CHOICE];
    size_t n = copy_plain(text, gold);

    if (n > 3 && text[0] == '(' && is_choice_letter(text[1]) && text[2] == ')')
        return 1u << (text[1] - 'A');   /* (D) Alina */
    return read_letters(text, 1);
}

/* "or (B)" behind a letter: it chooses nothing. */
static int is_alternative(const char *text)
{
    text += strspn(text, " ,");
    return strncasecmp(text, "or", 2) == 0 || strncasecmp(text, "and", 3) == 0 || *text == '/';
}

unsigned choice_of_prediction(struct span pred)
{
    char text[MAX_CHOICE], *at = text;
    size_t n = copy_plain(text, pred);
    unsigned bits;
    char letter;

    for (int i = 0; i < 2; i++)
        if (strncasecmp(at, i ? "choice " : "option ", 7) == 0) {
            at += 7;
            n -= 7;
        }
    while (*at == ' ')
        at++;
    n = strlen(at);
    bits = read_letters(at, 0);
    if (bits)
        return bits;
    if (*at == '(') {
        at++;
        n--;
    }
    letter = (char)toupper((unsigned char)*at);
    if (!is_choice_letter(letter))
        return 0;
    if (n == 1 || (n == 2 && strchr(").:", at[1])))
        return 1u << (letter - 'A');
    if (is_alternative(at + 2))
        return 0;
    /* C) text, C. text: the letter is capital and its mark is followed by words. */
    if (is_choice_letter(*at) && n > 3 && strchr(").:", at[1]) && strchr(" .:", at[2]))
        return 1u << (letter - 'A');
    return 0;
}
