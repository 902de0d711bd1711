#include "reward/repetition.h"

#include <stdint.h>
#include <string.h>

#include "common/memory.h"
#include "common/utf8.h"
#include "reward/language.h"
#include "reward/reward.h"

#define GRAM_BYTES 10
#define MAX_BYTES ((size_t)4 << 20)   /* of a longer text, the first part is measured */

/* Hashes met so far; 0 marks a free place and is never stored. */
struct seen {
    uint64_t *places;
    size_t n_places;
};

static void seen_create(struct seen *seen, size_t n_hashes)
{
    seen->n_places = 64;
    while (seen->n_places < 2 * n_hashes)
        seen->n_places *= 2;
    seen->places = mem_alloc(seen->n_places, sizeof(*seen->places));
}

/* 1 when it had been met before. */
static int seen_add(struct seen *seen, uint64_t hash)
{
    size_t place = hash & (seen->n_places - 1);

    while (seen->places[place] && seen->places[place] != hash)
        place = (place + 1) & (seen->n_places - 1);
    int repeated = seen->places[place] == hash;
    seen->places[place] = hash;
    return repeated;
}

static uint64_t finish_hash(uint64_t hash)
{
    hash ^= hash >> 29;
    hash *= 0x94D049BB133111EBu;
    hash ^= hash >> 32;
    return hash ? hash : 1;
}

static uint64_t hash_gram(const char *at)
{
    uint64_t head;
    uint16_t tail;

    memcpy(&head, at, sizeof(head));
    memcpy(&tail, at + sizeof(head), sizeof(tail));
    return finish_hash((head ^ (uint64_t)tail * 0x9E3779B97F4A7C15u) * 0xBF58476D1CE4E5B9u);
}

double reward_repetition_share(const char *text, size_t n)
{
    size_t n_repeated = 0;
    struct seen seen;

    if (n > MAX_BYTES)
        n = MAX_BYTES;
    if (n <= GRAM_BYTES)
        return 0;
    size_t n_grams = n - GRAM_BYTES + 1;
    seen_create(&seen, n_grams);
    for (size_t i = 0; i < n_grams; i++)
        n_repeated += (size_t)seen_add(&seen, hash_gram(text + i));
    mem_free(seen.places);
    return (double)n_repeated / (double)n_grams;
}

/* Bytes of the character at text[0..n), a byte that is none counting as one; whether it is a word
 * by itself. */
static size_t read_character(const char *text, size_t n, int *is_word)
{
    const unsigned char *bytes = (const unsigned char *)text;
    size_t length = utf8_length(bytes, n);

    *is_word = length > 2 && language_is_character(utf8_decode(bytes, length));
    return length ? length : 1;
}

/* The hash of the word at *at, which moves behind it; 0 at the end of the text. */
static uint64_t next_word(const char *text, size_t n, size_t *at)
{
    uint64_t hash = 0xCBF29CE484222325u;   /* FNV-1a */
    size_t start;

    while (*at < n && (unsigned char)text[*at] <= ' ')
        ++*at;
    for (start = *at; *at < n && (unsigned char)text[*at] > ' ';) {
        int is_word;
        size_t length = read_character(text + *at, n - *at, &is_word);
        if (is_word && *at > start)
            break;
        for (size_t i = 0; i < length; i++) {
            unsigned char byte = (unsigned char)text[*at + i];
            hash = (hash ^ (byte >= 'A' && byte <= 'Z' ? byte | 32u : byte)) * 0x100000001B3u;
        }
        *at += length;
        if (is_word)
            break;
    }
    return *at > start ? finish_hash(hash) : 0;
}

double repetition_of_words(const char *text, size_t n, size_t n_words)
{
    uint64_t last[REPETITION_MAX_WORDS] = {0}, word;
    size_t at = 0, n_met = 0, n_grams = 0, n_repeated = 0;
    struct seen seen;

    if (n > MAX_BYTES)
        n = MAX_BYTES;
    seen_create(&seen, n / 2 + 1);   /* the shortest word and its blank */
    while ((word = next_word(text, n, &at)) != 0) {
        last[n_met++ % n_words] = word;
        if (n_met < n_words)
            continue;
        uint64_t hash = 0;
        for (size_t i = 0; i < n_words; i++)
            hash = finish_hash(hash * 0x9E3779B97F4A7C15u + last[(n_met + i) % n_words]);
        n_grams++;
        n_repeated += (size_t)seen_add(&seen, hash);
    }
    mem_free(seen.places);
    return n_grams ? (double)n_repeated / (double)n_grams : 0;
}
