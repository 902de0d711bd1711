/*
 * Unicode normalization form C (UAX #15): decompose canonically, order combining marks by their
 * class, compose. Hangul syllables are computed, the rest is looked up.
 */
#include <stdlib.h>
#include <string.h>

#include "model/tokenizer_internal.h"

#define HANGUL_FIRST 0xAC00u
#define HANGUL_COUNT 11172u
#define LEAD_FIRST 0x1100u
#define LEAD_COUNT 19u
#define VOWEL_FIRST 0x1161u
#define VOWEL_COUNT 21u
#define TAIL_FIRST 0x11A7u   /* one before the first tail: index 0 means no tail */
#define TAIL_COUNT 28u

struct character {
    uint32_t code, combining_class;
    size_t index;   /* keeps the order of equal classes */
};

struct characters {
    struct character *list;
    size_t n, capacity;
};

static uint32_t find_class(uint32_t code)
{
    size_t low = 0, high = n_nfc_classes;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (code < nfc_classes[middle].from)
            high = middle;
        else if (code > nfc_classes[middle].to)
            low = middle + 1;
        else
            return nfc_classes[middle].combining_class;
    }
    return 0;
}

static const struct nfc_decomposition *find_decomposition(uint32_t code)
{
    size_t low = 0, high = n_nfc_decompositions;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (nfc_decompositions[middle].code == code)
            return &nfc_decompositions[middle];
        if (nfc_decompositions[middle].code < code)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

static uint32_t find_composition(uint32_t first, uint32_t second)
{
    size_t low = 0, high = n_nfc_compositions;

    if (first - LEAD_FIRST < LEAD_COUNT && second - VOWEL_FIRST < VOWEL_COUNT)
        return HANGUL_FIRST +
               ((first - LEAD_FIRST) * VOWEL_COUNT + second - VOWEL_FIRST) * TAIL_COUNT;
    if (first - HANGUL_FIRST < HANGUL_COUNT && (first - HANGUL_FIRST) % TAIL_COUNT == 0 &&
        second - TAIL_FIRST - 1 < TAIL_COUNT - 1)
        return first + second - TAIL_FIRST;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct nfc_composition *composition = &nfc_compositions[middle];
        if (composition->first == first && composition->second == second)
            return composition->code;
        if (composition->first < first ||
            (composition->first == first && composition->second < second))
            low = middle + 1;
        else
            high = middle;
    }
    return 0;
}

static void add_character(struct characters *characters, uint32_t code)
{
    if (characters->n == characters->capacity) {
        characters->capacity = characters->capacity ? 2 * characters->capacity : 64;
        characters->list = mem_resize(characters->list, characters->capacity,
                                      sizeof(*characters->list));
    }
    characters->list[characters->n] =
        (struct character){code, find_class(code), characters->n};
    characters->n++;
}

static void decompose(struct characters *characters, uint32_t code)
{
    const struct nfc_decomposition *parts = find_decomposition(code);
    uint32_t hangul = code - HANGUL_FIRST;

    if (hangul < HANGUL_COUNT) {
        add_character(characters, LEAD_FIRST + hangul / (VOWEL_COUNT * TAIL_COUNT));
        add_character(characters, VOWEL_FIRST + hangul / TAIL_COUNT % VOWEL_COUNT);
        if (hangul % TAIL_COUNT)
            add_character(characters, TAIL_FIRST + hangul % TAIL_COUNT);
    } else if (parts) {   /* the table is Unicode's: at most four deep */
        decompose(characters, parts->first);
        if (parts->second)
            decompose(characters, parts->second);
    } else {
        add_character(characters, code);
    }
}

static int compare_class(const void *a, const void *b)
{
    const struct character *x = a, *y = b;

    if (x->combining_class != y->combining_class)
        return x->combining_class < y->combining_class ? -1 : 1;
    return x->index < y->index ? -1 : 1;
}

static void order_marks(struct characters *characters)
{
    for (size_t i = 0; i < characters->n;) {
        size_t end = i;
        while (end < characters->n && characters->list[end].combining_class)
            end++;
        if (end - i > 1)
            qsort(characters->list + i, end - i, sizeof(*characters->list), compare_class);
        i = end + 1;
    }
}

/* A mark joins the last starter unless one of the same class, or a starter, lies between. */
static void compose(struct characters *characters)
{
    size_t starter = SIZE_MAX, n = 0;
    uint32_t last_class = 0;   /* of what was kept behind the starter */

    for (size_t i = 0; i < characters->n; i++) {
        struct character next = characters->list[i];
        int adjacent = starter != SIZE_MAX && n == starter + 1;
        int blocked = !adjacent && (last_class == 0 || last_class >= next.combining_class);
        uint32_t joined = 0;
        if (starter != SIZE_MAX && !blocked)
            joined = find_composition(characters->list[starter].code, next.code);
        if (joined) {
            characters->list[starter].code = joined;
            continue;
        }
        if (!next.combining_class)
            starter = n;
        last_class = next.combining_class;
        characters->list[n++] = next;
    }
    characters->n = n;
}

static void append_run(struct text *out, const unsigned char *bytes, size_t n)
{
    struct characters characters = {0};
    size_t length;

    for (size_t i = 0; i < n; i += length) {
        length = utf8_length(bytes + i, n - i);
        decompose(&characters, utf8_decode(bytes + i, length));
    }
    order_marks(&characters);
    compose(&characters);
    for (size_t i = 0; i < characters.n; i++)
        utf8_append(out, characters.list[i].code);
    mem_free(characters.list);
}

/* Nothing below U+0300 changes: its characters are in form C, and none combines with another. */
static size_t plain_prefix(const unsigned char *bytes, size_t n)
{
    size_t i = 0;

    while (i < n && bytes[i] < 0xCC)
        i++;
    return i;
}

/* The end of the valid text without open characters; *boundary is where its last character starts.
 * What is before a closed character never joins with it or what follows. */
static size_t closed_prefix(const unsigned char *bytes, size_t n, size_t *boundary)
{
    size_t i = 0, length;

    *boundary = 0;
    while (i < n) {
        length = bytes[i] < 0x80 ? 1 : utf8_length(bytes + i, n - i);
        if (!length || (unicode_bits_at(bytes, i, n, &length) & UNICODE_OPEN))
            break;
        *boundary = i;
        i += length;
    }
    return i;
}

/* The end of the open characters that start at bytes[from]. */
static size_t open_prefix(const unsigned char *bytes, size_t from, size_t n)
{
    size_t length;

    while (from < n && utf8_length(bytes + from, n - from) &&
           (unicode_bits_at(bytes, from, n, &length) & UNICODE_OPEN))
        from += length;
    return from;
}

int nfc_is_plain(const char *text, size_t n)
{
    const unsigned char *bytes = (const unsigned char *)text;
    size_t boundary;

    unicode_prepare();
    return plain_prefix(bytes, n) == n || closed_prefix(bytes, n, &boundary) == n;
}

void nfc_append(struct text *out, const char *text, size_t n)
{
    const unsigned char *bytes = (const unsigned char *)text;

    unicode_prepare();
    while (n) {
        size_t boundary, end = closed_prefix(bytes, n, &boundary);
        size_t open = open_prefix(bytes, end, n);
        if (open > end) {
            text_append(out, bytes, boundary);
            append_run(out, bytes + boundary, open - boundary);
        } else {   /* the end, or one byte that is not valid */
            open = end < n ? end + 1 : n;
            text_append(out, bytes, open);
        }
        bytes += open;
        n -= open;
    }
}
