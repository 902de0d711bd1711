/*
 * The known patterns of pre-tokenizers as functions: what a pattern engine would match at a place,
 * several times faster. Text is valid UTF-8. The end of the text is the end of the subject, as for
 * the engine. test_tokenizer_split.c holds them against PCRE2.
 */
#include <string.h>

#include "model/tokenizer_internal.h"

#define TAIL " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define HEAD "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|"

/* Radford et al., 2019; the default of the ByteLevel pre-tokenizer. */
const char *const split_gpt2 =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
const char *const split_qwen2 = HEAD "\\p{N}|" TAIL;
const char *const split_llama3 = HEAD "\\p{N}{1,3}|" TAIL;

#define SPLIT_DEEPSEEK                                                                             \
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|"                                       \
    "[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|"                      \
    "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

/* The end of the characters from text[at] that have one of the bits of `any`. */
static size_t run_of(const unsigned char *text, size_t at, size_t n, unsigned any)
{
    size_t length;

    while (unicode_bits_at(text, at, n, &length) & any)
        at += length;
    return at;
}

/* The same for those that have none of the bits of `none`. */
static size_t run_without(const unsigned char *text, size_t at, size_t n, unsigned none)
{
    size_t length;

    for (; at < n && !(unicode_bits_at(text, at, n, &length) & none); at += length)
        ;
    return at;
}

static int is_newline(unsigned char byte)
{
    return byte == '\r' || byte == '\n';
}

static size_t run_of_newlines(const unsigned char *text, size_t at, size_t n)
{
    while (at < n && is_newline(text[at]))
        at++;
    return at;
}

static size_t start_of_last(const unsigned char *text, size_t end)
{
    do
        end--;
    while ((text[end] & 0xC0) == 0x80);
    return end;
}

/* \s+(?!\S)|\s+ : the last blank is left to the word behind it. */
static size_t match_blanks(const unsigned char *text, size_t at, size_t end, size_t n)
{
    if (end == n)
        return end;
    size_t last = start_of_last(text, end);
    return last > at ? last : end;
}

/* \s*[\r\n]+|\s+(?!\S)|\s+ */
static size_t match_lines_or_blanks(const unsigned char *text, size_t at, size_t n)
{
    size_t end = run_of(text, at, n, UNICODE_SPACE), last = end;

    while (last > at && !is_newline(text[last - 1]))
        last--;
    return last > at ? last : match_blanks(text, at, end, n);
}

/* 's 't 're 've 'm 'll 'd behind an apostrophe at text[at]: their end, or 0. */
static size_t match_contraction(const unsigned char *text, size_t at, size_t n, int any_case)
{
    unsigned char fold = any_case ? 0x20 : 0;
    unsigned char first = at + 1 < n ? text[at + 1] | fold : 0;
    unsigned char second = at + 2 < n ? text[at + 2] | fold : 0;

    switch (first) {
    case 's':
    case 't':
    case 'm':
    case 'd':
        return at + 2;
    case 'r':
    case 'v':
        return second == 'e' ? at + 3 : 0;
    case 'l':
        return second == 'l' ? at + 3 : 0;
    default:   /* U+017F is an s of another case */
        return any_case && at + 2 < n && text[at + 1] == 0xC5 && text[at + 2] == 0xBF ? at + 3 : 0;
    }
}

static size_t match_gpt2(const struct split *split, const unsigned char *text, size_t at, size_t n)
{
    size_t length, start = at;
    unsigned bits = unicode_bits_at(text, at, n, &length);

    (void)split;
    if (text[at] == '\'') {
        size_t end = match_contraction(text, at, n, 0);
        if (end)
            return end;
    }
    if (text[at] == ' ' && at + 1 < n) {
        unsigned next = unicode_bits_at(text, at + 1, n, &length);
        if (!(next & UNICODE_SPACE)) {
            bits = next;
            start = at + 1;
        }
    }
    if (bits & UNICODE_LETTER)
        return run_of(text, start + length, n, UNICODE_LETTER);
    if (bits & UNICODE_NUMBER)
        return run_of(text, start + length, n, UNICODE_NUMBER);
    if (bits & UNICODE_SPACE)
        return match_blanks(text, at, run_of(text, at, n, UNICODE_SPACE), n);
    return run_without(text, start + length, n, UNICODE_SPACE | UNICODE_LETTER | UNICODE_NUMBER);
}

static size_t match_digits(const struct split *split, const unsigned char *text, size_t at,
                           size_t n)
{
    size_t length;
    unsigned count = 0;
    size_t end = at;

    while (count < split->n_digits &&
           (unicode_bits_at(text, end, n, &length) & UNICODE_NUMBER)) {
        end += length;
        count++;
    }
    return count ? end : 0;
}

/* Qwen2 and Llama 3, which differ in how many digits go together. */
static size_t match_cl100k(const struct split *split, const unsigned char *text, size_t at,
                           size_t n)
{
    const unsigned words = UNICODE_LETTER | UNICODE_NUMBER, none = words | UNICODE_SPACE;
    size_t length, next_length;
    unsigned bits = unicode_bits_at(text, at, n, &length);

    if (bits & UNICODE_LETTER)
        return run_of(text, at + length, n, UNICODE_LETTER);
    if (bits & UNICODE_NUMBER)
        return match_digits(split, text, at, n);
    if (text[at] == '\'') {
        size_t end = match_contraction(text, at, n, 1);
        if (end)
            return end;
    }
    unsigned next = unicode_bits_at(text, at + length, n, &next_length);
    if ((next & UNICODE_LETTER) && !is_newline(text[at]))
        return run_of(text, at + length + next_length, n, UNICODE_LETTER);
    if (!(bits & UNICODE_SPACE) || (text[at] == ' ' && next_length && !(next & none)))
        return run_of_newlines(text, run_without(text, at + length, n, none), n);
    return match_lines_or_blanks(text, at, n);
}

static int is_ascii_letter(unsigned char byte)
{
    return (byte | 0x20) >= 'a' && (byte | 0x20) <= 'z';
}

/* The third pattern of DeepSeek V3 and R1. What it does not match goes together until it does. */
static size_t match_deepseek(const struct split *split, const unsigned char *text, size_t at,
                             size_t n)
{
    const unsigned word = UNICODE_LETTER | UNICODE_MARK;
    size_t length, next_length, end;
    unsigned bits = unicode_bits_at(text, at, n, &length);

    (void)split;
    if (text[at] < 0x80 && (bits & UNICODE_PUNCTUATION) && at + 1 < n &&
        is_ascii_letter(text[at + 1])) {
        for (end = at + 2; end < n && is_ascii_letter(text[end]);)
            end++;
        return end;
    }
    unsigned next = unicode_bits_at(text, at + length, n, &next_length);
    if (bits & word)
        return run_of(text, at + length, n, word);
    if ((next & word) && !is_newline(text[at]) && !(bits & UNICODE_PUNCTUATION))
        return run_of(text, at + length + next_length, n, word);
    if ((bits & UNICODE_PUNCTUATION) || (text[at] == ' ' && (next & UNICODE_PUNCTUATION)))
        return run_of_newlines(text, run_of(text, at + length, n, UNICODE_PUNCTUATION), n);
    return bits & UNICODE_SPACE ? match_lines_or_blanks(text, at, n) : 0;
}

/* [U+4E00-U+9FA5 U+3040-U+309F U+30A0-U+30FF]+ */
static size_t match_han_or_kana(const struct split *split, const unsigned char *text, size_t at,
                                size_t n)
{
    size_t start = at;

    (void)split;
    for (; at + 2 < n && text[at] >= 0xE3 && text[at] <= 0xE9; at += 3) {
        uint32_t code = utf8_decode(text + at, 3);
        if ((code < 0x4E00 || code > 0x9FA5) && (code < 0x3040 || code > 0x30FF))
            break;
    }
    return at > start ? at : 0;
}

/* A line feed as a character of the pattern is the same as one that is written \n. */
static int same_pattern(const char *known, const char *pattern)
{
    for (; *pattern; pattern++) {
        if (*pattern == '\r' || *pattern == '\n') {
            if (*known++ != '\\' || *known++ != (*pattern == '\r' ? 'r' : 'n'))
                return 0;
        } else if (*known++ != *pattern) {
            return 0;
        }
    }
    return !*known;
}

void split_find_function(struct split *split, const char *pattern)
{
    const struct {
        const char *pattern;
        size_t (*match)(const struct split *, const unsigned char *, size_t, size_t);
        unsigned n_digits;
    } known[] = {
        {split_gpt2, match_gpt2, 0},
        {split_qwen2, match_cl100k, 1},
        {split_llama3, match_cl100k, 3},
        {SPLIT_DEEPSEEK, match_deepseek, 0},
        {"[\xE4\xB8\x80-\xE9\xBE\xA5\xE3\x81\x80-\xE3\x82\x9F\xE3\x82\xA0-\xE3\x83\xBF]+",
         match_han_or_kana, 0},
        {"\\p{N}{1,3}", match_digits, 3},
        {"\\p{N}", match_digits, 1},
        {"\\p{N}+", match_digits, UINT32_MAX},
    };

    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (same_pattern(known[i].pattern, pattern)) {
            split->match = known[i].match;
            split->n_digits = known[i].n_digits;
        }
}
