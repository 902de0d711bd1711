/* One byte of bits per character, filled once per process: a lookup is one load. */
#include <pthread.h>
#include <string.h>

#include "model/tokenizer_internal.h"

#define HANGUL_VOWELS_FIRST 0x1161u
#define HANGUL_VOWELS_LAST 0x1175u
#define HANGUL_TAILS_FIRST 0x11A8u
#define HANGUL_TAILS_LAST 0x11C2u

unsigned char unicode_bits[UNICODE_CODES];

static void set_bits(uint32_t from, uint32_t to, unsigned bits)
{
    for (uint32_t code = from; code <= to; code++)
        unicode_bits[code] |= (unsigned char)bits;
}

/* Open are: what decomposes and is not composed again, what is second in a composition, and marks
 * that have a class (UAX #15, "quick check" other than Yes). */
static void find_open(void)
{
    for (size_t i = 0; i < n_nfc_decompositions; i++)
        unicode_bits[nfc_decompositions[i].code] |= UNICODE_OPEN;
    for (size_t i = 0; i < n_nfc_compositions; i++)
        unicode_bits[nfc_compositions[i].code] &= (unsigned char)~UNICODE_OPEN;
    for (size_t i = 0; i < n_nfc_compositions; i++)
        unicode_bits[nfc_compositions[i].second] |= UNICODE_OPEN;
    for (size_t i = 0; i < n_nfc_classes; i++)
        set_bits(nfc_classes[i].from, nfc_classes[i].to, UNICODE_OPEN);
    set_bits(HANGUL_VOWELS_FIRST, HANGUL_VOWELS_LAST, UNICODE_OPEN);
    set_bits(HANGUL_TAILS_FIRST, HANGUL_TAILS_LAST, UNICODE_OPEN);
}

static void prepare(void)
{
    for (size_t i = 0; i < n_unicode_ranges; i++)
        memset(unicode_bits + unicode_ranges[i].from, unicode_ranges[i].bits,
               unicode_ranges[i].to - unicode_ranges[i].from + 1);
    find_open();
}

void unicode_prepare(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, prepare);
}
