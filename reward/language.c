#include "reward/language.h"

#include <string.h>

#include "common/utf8.h"
#include "reward/reward.h"

#define MAX_FORMULA_BYTES 4096

enum script {
    SCRIPT_NONE,
    SCRIPT_LATIN = 1,
    SCRIPT_HAN = 2,
    SCRIPT_KANA = 4,
    SCRIPT_HANGUL = 8,
    SCRIPT_CYRILLIC = 16,
    SCRIPT_ARABIC = 32,
    SCRIPT_OTHER = 64
};

struct range {
    unsigned first, last;
    enum script script;
};

/* Letters by code point (Unicode blocks), in rising order. */
static const struct range ranges[] = {
    {'A', 'Z', SCRIPT_LATIN},           {'a', 'z', SCRIPT_LATIN},
    {0x00C0, 0x00D6, SCRIPT_LATIN},     {0x00D8, 0x00F6, SCRIPT_LATIN},
    {0x00F8, 0x024F, SCRIPT_LATIN},     {0x0370, 0x03FF, SCRIPT_OTHER},
    {0x0400, 0x052F, SCRIPT_CYRILLIC},  {0x0530, 0x05FF, SCRIPT_OTHER},
    {0x0620, 0x065F, SCRIPT_ARABIC},    {0x066E, 0x06EF, SCRIPT_ARABIC},
    {0x06FA, 0x06FF, SCRIPT_ARABIC},    {0x0700, 0x074F, SCRIPT_OTHER},
    {0x0750, 0x077F, SCRIPT_ARABIC},    {0x0780, 0x089F, SCRIPT_OTHER},
    {0x08A0, 0x08FF, SCRIPT_ARABIC},    {0x0900, 0x10FF, SCRIPT_OTHER},
    {0x1100, 0x11FF, SCRIPT_HANGUL},    {0x1200, 0x1C7F, SCRIPT_OTHER},
    {0x1E00, 0x1EFF, SCRIPT_LATIN},     {0x1F00, 0x1FFF, SCRIPT_OTHER},
    {0x3005, 0x3007, SCRIPT_HAN},       {0x3041, 0x30FF, SCRIPT_KANA},
    {0x3131, 0x318F, SCRIPT_HANGUL},    {0x31F0, 0x31FF, SCRIPT_KANA},
    {0x3400, 0x4DBF, SCRIPT_HAN},       {0x4E00, 0x9FFF, SCRIPT_HAN},
    {0xA000, 0xABFF, SCRIPT_OTHER},     {0xAC00, 0xD7AF, SCRIPT_HANGUL},
    {0xF900, 0xFAFF, SCRIPT_HAN},       {0xFB50, 0xFDFF, SCRIPT_ARABIC},
    {0xFE70, 0xFEFC, SCRIPT_ARABIC},    {0xFF21, 0xFF3A, SCRIPT_LATIN},
    {0xFF41, 0xFF5A, SCRIPT_LATIN},     {0xFF66, 0xFF9F, SCRIPT_KANA},
    {0x20000, 0x323AF, SCRIPT_HAN},
};

struct language_row {
    const char *name;
    int scripts;
};
static const struct language_row languages[] = {
    {"en", SCRIPT_LATIN},    {"de", SCRIPT_LATIN},    {"fr", SCRIPT_LATIN},
    {"es", SCRIPT_LATIN},    {"it", SCRIPT_LATIN},    {"pt", SCRIPT_LATIN},
    {"nl", SCRIPT_LATIN},    {"pl", SCRIPT_LATIN},    {"tr", SCRIPT_LATIN},
    {"vi", SCRIPT_LATIN},    {"id", SCRIPT_LATIN},    {"zh", SCRIPT_HAN},
    {"ja", SCRIPT_HAN | SCRIPT_KANA},                 {"ko", SCRIPT_HANGUL},
    {"ru", SCRIPT_CYRILLIC}, {"uk", SCRIPT_CYRILLIC}, {"bg", SCRIPT_CYRILLIC},
    {"ar", SCRIPT_ARABIC},   {"fa", SCRIPT_ARABIC},   {"ur", SCRIPT_ARABIC},
};

static int scripts_of(const char *language)
{
    for (size_t i = 0; i < sizeof(languages) / sizeof(languages[0]); i++)
        if (strcmp(languages[i].name, language) == 0)
            return languages[i].scripts;
    return SCRIPT_NONE;
}

int language_is_known(const char *language)
{
    return scripts_of(language) != SCRIPT_NONE;
}

static enum script script_of(unsigned code)
{
    size_t low = 0, high = sizeof(ranges) / sizeof(ranges[0]);

    while (low < high) {
        size_t middle = (low + high) / 2;
        if (code > ranges[middle].last)
            low = middle + 1;
        else if (code < ranges[middle].first)
            high = middle;
        else
            return ranges[middle].script;
    }
    return SCRIPT_NONE;
}

int language_is_character(unsigned code)
{
    return (script_of(code) & (SCRIPT_HAN | SCRIPT_KANA)) != 0;
}

/* Bytes up to and with `close`, looked for in the next `reach` bytes; 0 when it is not there. */
static size_t span_to(const char *text, size_t n, size_t from, const char *close, size_t reach)
{
    size_t length = strlen(close);
    size_t window = n - from < reach ? n - from : reach;
    const char *end = from < n ? memmem(text + from, window, close, length) : NULL;

    return end ? (size_t)(end - text) + length : 0;
}

static int starts_with(const char *text, size_t n, const char *word)
{
    size_t length = strlen(word);

    return n >= length && memcmp(text, word, length) == 0;
}

static size_t skip_word(const char *text, size_t n)
{
    size_t at = 0;

    while (at < n && (unsigned char)text[at] > ' ')
        at++;
    return at;
}

/* "\( .. \)", "\[ .. \]" whole, else the command's name alone. */
static size_t skip_tex(const char *text, size_t n)
{
    size_t end = starts_with(text, n, "\\(")   ? span_to(text, n, 2, "\\)", MAX_FORMULA_BYTES)
                 : starts_with(text, n, "\\[") ? span_to(text, n, 2, "\\]", MAX_FORMULA_BYTES)
                                               : 0;
    if (end)
        return end;
    for (end = 1; end < n && (text[end] | 32) >= 'a' && (text[end] | 32) <= 'z';)
        end++;
    return end;
}

/* Bytes of what is no prose at text[0]: a formula, code, an address, a tag, a TeX command; or 0. */
static size_t skip_non_prose(const char *text, size_t n)
{
    static const char *const tags[] = {"<think>", "</think>", "<answer>", "</answer>"};

    switch (text[0]) {
    case '`':
        if (starts_with(text, n, "```")) {
            size_t end = span_to(text, n, 3, "```", n);
            return end ? end : n;
        }
        return span_to(text, n, 1, "`", MAX_FORMULA_BYTES);
    case '$':
        return starts_with(text, n, "$$") ? span_to(text, n, 2, "$$", MAX_FORMULA_BYTES)
                                          : span_to(text, n, 1, "$", MAX_FORMULA_BYTES);
    case '\\':
        return skip_tex(text, n);
    case '<':
        for (size_t i = 0; i < sizeof(tags) / sizeof(tags[0]); i++)
            if (starts_with(text, n, tags[i]))
                return strlen(tags[i]);
        return 0;
    case 'h':
        return starts_with(text, n, "http://") || starts_with(text, n, "https://")
                   ? skip_word(text, n)
                   : 0;
    case 'w':
        return starts_with(text, n, "www.") ? skip_word(text, n) : 0;
    default:
        return 0;
    }
}

double reward_language_share(const char *text, size_t n, const char *language)
{
    int wanted = scripts_of(language);
    enum script last = SCRIPT_NONE;
    size_t n_words = 0, n_wanted = 0;

    for (size_t at = 0; at < n;) {
        size_t skip = skip_non_prose(text + at, n - at);
        if (skip) {
            last = SCRIPT_NONE;
            at += skip;
            continue;
        }
        const unsigned char *bytes = (const unsigned char *)text + at;
        size_t length = utf8_length(bytes, n - at);
        unsigned code = length ? utf8_decode(bytes, length) : 0;
        enum script script = script_of(code);
        int is_character = script == SCRIPT_HAN || script == SCRIPT_KANA;
        /* An apostrophe belongs to its word. */
        if (script == SCRIPT_NONE && (code == '\'' || code == 0x2019) && last != SCRIPT_NONE)
            script = last;
        else if (script != SCRIPT_NONE && (is_character || script != last)) {
            n_words++;
            n_wanted += (script & wanted) != 0;
        }
        last = script;
        at += length ? length : 1;
    }
    return n_words ? (double)n_wanted / (double)n_words : 1.0;
}
