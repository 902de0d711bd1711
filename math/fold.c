#include <string.h>

#include "common/utf8.h"
#include "math/read.h"

/* Characters and what they stand for. Names end in a blank, so that no letter joins them. */
static const struct fold_row {
    uint32_t character;
    const char *text;
} fold_rows[] = {
    {0x00a2, "\\cent "}, {0x00a3, "\\pounds "}, {0x00a5, "\\yen "}, {0x20ac, "\\euro "},
    {0x20a9, "\\won "}, {0x20b9, "\\rupee "}, {0x00b0, "^\\circ "}, {0x00ba, "^\\circ "},
    {0x00b1, "\\pm "}, {0x2213, "\\mp "}, {0x00b7, "\\cdot "}, {0x22c5, "\\cdot "},
    {0x2219, "\\cdot "}, {0x00d7, "\\times "}, {0x2715, "\\times "}, {0x00f7, "\\div "},
    {0x2215, "/"}, {0x2044, "/"}, {0x2217, "*"},
    {0x2010, "-"}, {0x2011, "-"}, {0x2012, "-"}, {0x2013, "-"}, {0x2014, "-"}, {0x2212, "-"},
    {0x2018, "'"}, {0x2019, "'"}, {0x2032, "'"}, {0x2033, "''"}, {0x201c, "\""}, {0x201d, "\""},
    {0x00ab, "\""}, {0x00bb, "\""}, {0x300c, "\""}, {0x300d, "\""},
    {0x2026, "\\ldots "}, {0x22ef, "\\ldots "},
    {0x3001, ","}, {0x3002, "."}, {0x3008, "\\langle "}, {0x3009, "\\rangle "},
    {0x27e8, "\\langle "}, {0x27e9, "\\rangle "}, {0x3010, "["}, {0x3011, "]"},
    {0x230a, "\\lfloor "}, {0x230b, "\\rfloor "}, {0x2308, "\\lceil "}, {0x2309, "\\rceil "},
    {0x2192, "\\to "}, {0x21d2, "\\Rightarrow "}, {0x2200, "\\forall "}, {0x2203, "\\exists "},
    {0x2205, "\\emptyset "}, {0x00d8, "\\emptyset "}, {0x2208, "\\in "}, {0x2209, "\\notin "},
    {0x2216, "\\setminus "}, {0x221a, "\\radical "}, {0x221b, "\\cbrt "}, {0x221e, "\\infty "},
    {0x2220, "\\angle "}, {0x25b3, "\\triangle "}, {0x2223, "|"}, {0x2225, "\\parallel "},
    {0x2227, "\\land "}, {0x2228, "\\lor "}, {0x2229, "\\cap "}, {0x222a, "\\cup "},
    {0x222b, "\\int "}, {0x2211, "\\sum "}, {0x220f, "\\prod "}, {0x2202, "\\partial "},
    {0x2236, ":"}, {0x2243, "\\approx "}, {0x2248, "\\approx "}, {0x2245, "\\cong "},
    {0x2260, "\\ne "}, {0x2261, "\\equiv "}, {0x2264, "\\le "}, {0x2265, "\\ge "},
    {0x2a7d, "\\le "}, {0x2a7e, "\\ge "}, {0x2282, "\\subset "}, {0x2286, "\\subseteq "},
    {0x22a5, "\\perp "}, {0x2102, "\\mathbb{C}"}, {0x2115, "\\mathbb{N}"},
    {0x211a, "\\mathbb{Q}"}, {0x211d, "\\mathbb{R}"}, {0x2124, "\\mathbb{Z}"}, {0x210e, "h"},
    {0x2113, "\\ell "}, {0x2107, "e"}, {0x2126, "\\Omega "}, {0x00b5, "\\mu "},
    {0x00bc, "\\frac{1}{4}"}, {0x00bd, "\\frac{1}{2}"}, {0x00be, "\\frac{3}{4}"},
    {0x2150, "\\frac{1}{7}"}, {0x2151, "\\frac{1}{9}"}, {0x2152, "\\frac{1}{10}"},
    {0x2153, "\\frac{1}{3}"}, {0x2154, "\\frac{2}{3}"}, {0x2155, "\\frac{1}{5}"},
    {0x2156, "\\frac{2}{5}"}, {0x2157, "\\frac{3}{5}"}, {0x2158, "\\frac{4}{5}"},
    {0x2159, "\\frac{1}{6}"}, {0x215a, "\\frac{5}{6}"}, {0x215b, "\\frac{1}{8}"},
    {0x215c, "\\frac{3}{8}"}, {0x215d, "\\frac{5}{8}"}, {0x215e, "\\frac{7}{8}"},
    {0x03b1, "\\alpha "}, {0x03b2, "\\beta "}, {0x03b3, "\\gamma "}, {0x03b4, "\\delta "},
    {0x03b5, "\\epsilon "}, {0x03f5, "\\epsilon "}, {0x03b6, "\\zeta "}, {0x03b7, "\\eta "},
    {0x03b8, "\\theta "}, {0x03d1, "\\theta "}, {0x03b9, "\\iota "}, {0x03ba, "\\kappa "},
    {0x03bb, "\\lambda "}, {0x03bc, "\\mu "}, {0x03bd, "\\nu "}, {0x03be, "\\xi "},
    {0x03c0, "\\pi "}, {0x03c1, "\\rho "}, {0x03c3, "\\sigma "}, {0x03c4, "\\tau "},
    {0x03c6, "\\phi "}, {0x03d5, "\\phi "}, {0x03c7, "\\chi "}, {0x03c8, "\\psi "},
    {0x03c9, "\\omega "}, {0x0393, "\\Gamma "}, {0x0394, "\\Delta "}, {0x0398, "\\Theta "},
    {0x039b, "\\Lambda "}, {0x03a3, "\\Sigma "}, {0x03a6, "\\Phi "}, {0x03a8, "\\Psi "},
    {0x03a9, "\\Omega "}, {0x6216, " or "}, {0x548c, " and "}, {0x4e14, " and "},
};

static int is_invisible(uint32_t c)
{
    return (c >= 0x200b && c <= 0x200f) || (c >= 0x202a && c <= 0x202e) ||
           (c >= 0x2060 && c <= 0x206f) || c == 0xfeff || c == 0x00ad || c == 0x061c ||
           c == 0x180e || (c >= 0x80 && c <= 0x9f && c != 0x85) || (c >= 0xfe00 && c <= 0xfe0f) ||
           (c >= 0xe0000 && c <= 0xe0fff) || (c >= 0xe000 && c <= 0xf8ff) || c == 0xfffd;
}

static int is_blank(uint32_t c)
{
    return c == 0xa0 || c == 0x85 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 ||
           c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

/* The plain character that stands in a raised or lowered position; 0 when none. */
static char raised_character(uint32_t c, int *is_lowered)
{
    static const char signs[] = "+-=()";

    *is_lowered = c >= 0x2080 && c <= 0x208e;
    if (c == 0xb2 || c == 0xb3)
        return c == 0xb2 ? '2' : '3';
    if (c == 0xb9)
        return '1';
    if (c == 0x2071)
        return 'i';
    if (c == 0x207f)
        return 'n';
    if (c == 0x02e3)
        return 'x';
    if (c == 0x2070 || (c >= 0x2074 && c <= 0x2079))
        return (char)('0' + (c - 0x2070));
    if (c >= 0x2080 && c <= 0x2089)
        return (char)('0' + (c - 0x2080));
    if (c >= 0x207a && c <= 0x207e)
        return signs[c - 0x207a];
    if (c >= 0x208a && c <= 0x208e)
        return signs[c - 0x208a];
    return 0;
}

/* Letters and digits of other widths and of mathematical alphabets; 0 when none. */
static char plain_character(uint32_t c)
{
    if (c >= 0xff01 && c <= 0xff5e)
        return (char)(c - 0xfee0);
    if (c >= 0x1d400 && c < 0x1d6a4) {
        uint32_t at = (c - 0x1d400) % 52;
        return (char)(at < 26 ? 'A' + at : 'a' + (at - 26));
    }
    if (c >= 0x1d7ce && c <= 0x1d7ff)
        return (char)('0' + (c - 0x1d7ce) % 10);
    if (c >= 0x0660 && c <= 0x0669)
        return (char)('0' + (c - 0x0660));
    if (c >= 0x06f0 && c <= 0x06f9)
        return (char)('0' + (c - 0x06f0));
    if (c >= 0x0966 && c <= 0x096f)
        return (char)('0' + (c - 0x0966));
    return 0;
}

static const char *find_row(uint32_t c)
{
    for (size_t i = 0; i < sizeof(fold_rows) / sizeof(fold_rows[0]); i++)
        if (fold_rows[i].character == c)
            return fold_rows[i].text;
    return NULL;
}

/* Writes the character; `raised` is the state of an open ^{ or _{ group. */
static void put_character(struct text *out, const char *bytes, size_t length, int *raised)
{
    uint32_t c = utf8_decode((const unsigned char *)bytes, length);
    int is_lowered;
    char plain = raised_character(c, &is_lowered);
    const char *row;

    if (*raised && (!plain || *raised != is_lowered + 1)) {
        text_append(out, "}", 1);
        *raised = 0;
    }
    if (plain) {
        if (!*raised)
            text_append(out, is_lowered ? "_{" : "^{", 2);
        *raised = is_lowered + 1;
        text_append(out, &plain, 1);
        return;
    }
    plain = plain_character(c);
    row = find_row(c);
    if (plain)
        text_append(out, &plain, 1);
    else if (row)
        text_append(out, row, strlen(row));
    else if (is_blank(c))
        text_append(out, " ", 1);
    else
        text_append(out, bytes, length);
}

/* \\frac for \frac: mathematics that was escaped once too often. In a matrix it ends a row. */
static int is_doubled(const char *bytes, size_t n, size_t i)
{
    return i + 2 < n && bytes[i] == '\\' && bytes[i + 1] == '\\' &&
           ((bytes[i + 2] >= 'a' && bytes[i + 2] <= 'z') || strchr("{}[]()$%", bytes[i + 2])) &&
           !(i && bytes[i - 1] == '\\');
}

int fold_text(struct text *out, const char *bytes, size_t n)
{
    int raised = 0, has_rows = memmem(bytes, n, "\\begin", 6) != NULL;

    for (size_t i = 0; i < n;) {
        unsigned char c = (unsigned char)bytes[i];
        size_t length = c < 0x80 ? 1 : utf8_length((const unsigned char *)bytes + i, n - i);

        if (!length || (c < 0x20 && c != '\n' && c != '\t' && c != '\r') || c == 0x7f)
            return 0;
        if (!has_rows && is_doubled(bytes, n, i)) {
            i++;
            continue;
        }
        if (length == 1) {
            if (raised)
                text_append(out, "}", 1);
            raised = 0;
            text_append(out, c < 0x20 ? " " : bytes + i, 1);
        } else {
            if (is_invisible(utf8_decode((const unsigned char *)bytes + i, length)))
                return 0;
            put_character(out, bytes + i, length, &raised);
        }
        i += length;
    }
    if (raised)
        text_append(out, "}", 1);
    return !out->failed;
}
