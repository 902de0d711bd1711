/* What harnesses write to SANDBOX_ANSWER: lines "nonce kind text". */
#include <string.h>
#include <sys/random.h>

#include "common/status.h"
#include "sandbox/judge_parts.h"

void records_nonce(char nonce[JUDGE_NONCE_BYTES])
{
    unsigned char bytes[(JUDGE_NONCE_BYTES - 1) / 2] = {0};

    if (getrandom(bytes, sizeof(bytes), 0) < 0)
        BUG("getrandom failed");
    for (size_t i = 0; i < sizeof(bytes); i++) {
        nonce[2 * i] = "0123456789abcdef"[bytes[i] >> 4];
        nonce[2 * i + 1] = "0123456789abcdef"[bytes[i] & 15];
    }
    nonce[2 * sizeof(bytes)] = '\0';
}

/* A line that its process could not finish is none. */
int records_next(const char **at, const char *end, const char *nonce, struct record *record)
{
    size_t n_nonce = strlen(nonce);

    while (*at < end) {
        const char *line = *at, *stop = memchr(line, '\n', (size_t)(end - line));

        if (!stop)
            return 0;
        *at = stop + 1;
        if ((size_t)(stop - line) < n_nonce + 2 || memcmp(line, nonce, n_nonce) != 0 ||
            line[n_nonce] != ' ')
            continue;
        const char *kind = line + n_nonce + 1, *blank = memchr(kind, ' ', (size_t)(stop - kind));
        size_t n_kind = (size_t)((blank ? blank : stop) - kind);
        if (n_kind >= sizeof(record->kind))
            continue;
        memcpy(record->kind, kind, n_kind);
        record->kind[n_kind] = '\0';
        record->text = blank ? blank + 1 : stop;
        record->n = (size_t)(stop - record->text);
        return 1;
    }
    return 0;
}
