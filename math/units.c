#include <ctype.h>
#include <string.h>

#include "math/read.h"

/* Names, comma between; dimension, its power, worth in base units (m, kg, s, rad, K, A, mol, byte,
 * one of each currency). A second dimension for speeds and such. */
static const struct unit_row {
    const char *names;
    enum unit_dimension dimension;
    int power;
    int64_t numerator, denominator;
    enum unit_dimension second;
    int second_power;
    int pi_power;
} unit_rows[] = {
    {"m,meter,meters,metre,metres", UNIT_LENGTH, 1, 1, 1, 0, 0, 0},
    {"km,kilometer,kilometers,kilometre,kilometres,kms", UNIT_LENGTH, 1, 1000, 1, 0, 0, 0},
    {"dm,decimeter,decimeters", UNIT_LENGTH, 1, 1, 10, 0, 0, 0},
    {"cm,cms,centimeter,centimeters,centimetre,centimetres", UNIT_LENGTH, 1, 1, 100, 0, 0, 0},
    {"mm,millimeter,millimeters,millimetre,millimetres", UNIT_LENGTH, 1, 1, 1000, 0, 0, 0},
    {"\\mu m,um,micrometer,micrometers,micron,microns", UNIT_LENGTH, 1, 1, 1000000, 0, 0, 0},
    {"nm,nanometer,nanometers", UNIT_LENGTH, 1, 1, 1000000000, 0, 0, 0},
    {"in,inch,inches", UNIT_LENGTH, 1, 254, 10000, 0, 0, 0},
    {"ft,foot,feet", UNIT_LENGTH, 1, 3048, 10000, 0, 0, 0},
    {"yd,yds,yard,yards", UNIT_LENGTH, 1, 9144, 10000, 0, 0, 0},
    {"mi,mile,miles", UNIT_LENGTH, 1, 1609344, 1000, 0, 0, 0},
    {"acre,acres", UNIT_LENGTH, 2, 40468564224, 10000000, 0, 0, 0},
    {"ha,hectare,hectares", UNIT_LENGTH, 2, 10000, 1, 0, 0, 0},
    {"L,l,liter,liters,litre,litres", UNIT_LENGTH, 3, 1, 1000, 0, 0, 0},
    {"dl,dL,deciliter,deciliters", UNIT_LENGTH, 3, 1, 10000, 0, 0, 0},
    {"cl,cL,centiliter,centiliters", UNIT_LENGTH, 3, 1, 100000, 0, 0, 0},
    {"ml,mL,milliliter,milliliters,millilitre,millilitres", UNIT_LENGTH, 3, 1, 1000000, 0, 0, 0},
    {"gallon,gallons,gal", UNIT_LENGTH, 3, 3785411784, 1000000000000, 0, 0, 0},
    {"quart,quarts,qt", UNIT_LENGTH, 3, 946352946, 1000000000000, 0, 0, 0},
    {"pint,pints,pt", UNIT_LENGTH, 3, 473176473, 1000000000000, 0, 0, 0},
    {"cup,cups", UNIT_LENGTH, 3, 2365882365, 10000000000000, 0, 0, 0},
    {"kg,kgs,kilogram,kilograms,kilo,kilos", UNIT_MASS, 1, 1, 1, 0, 0, 0},
    {"g,gram,grams,gramme,grammes", UNIT_MASS, 1, 1, 1000, 0, 0, 0},
    {"mg,milligram,milligrams", UNIT_MASS, 1, 1, 1000000, 0, 0, 0},
    {"t,ton,tons,tonne,tonnes", UNIT_MASS, 1, 1000, 1, 0, 0, 0},
    {"lb,lbs,pound,pounds", UNIT_MASS, 1, 45359237, 100000000, 0, 0, 0},
    {"oz,ounce,ounces", UNIT_MASS, 1, 45359237, 1600000000, 0, 0, 0},
    {"s,sec,secs,second,seconds", UNIT_TIME, 1, 1, 1, 0, 0, 0},
    {"ms,millisecond,milliseconds", UNIT_TIME, 1, 1, 1000, 0, 0, 0},
    {"min,mins,minute,minutes", UNIT_TIME, 1, 60, 1, 0, 0, 0},
    {"h,hr,hrs,hour,hours", UNIT_TIME, 1, 3600, 1, 0, 0, 0},
    {"day,days", UNIT_TIME, 1, 86400, 1, 0, 0, 0},
    {"week,weeks,wk,wks", UNIT_TIME, 1, 604800, 1, 0, 0, 0},
    {"degree,degrees,deg", UNIT_ANGLE, 1, 1, 180, 0, 0, 1},
    {"rad,radian,radians", UNIT_ANGLE, 1, 1, 1, 0, 0, 0},
    {"K,kelvin,kelvins", UNIT_TEMPERATURE, 1, 1, 1, 0, 0, 0},
    {"celsius,Celsius", UNIT_CELSIUS, 1, 1, 1, 0, 0, 0},
    {"fahrenheit,Fahrenheit", UNIT_FAHRENHEIT, 1, 1, 1, 0, 0, 0},
    {"A,ampere,amperes,amp,amps", UNIT_CURRENT, 1, 1, 1, 0, 0, 0},
    {"mol,mole,moles", UNIT_AMOUNT, 1, 1, 1, 0, 0, 0},
    {"byte,bytes,B", UNIT_BYTE, 1, 1, 1, 0, 0, 0},
    {"bit,bits", UNIT_BYTE, 1, 1, 8, 0, 0, 0},
    {"KB,kB", UNIT_BYTE, 1, 1000, 1, 0, 0, 0}, {"MB", UNIT_BYTE, 1, 1000000, 1, 0, 0, 0},
    {"GB", UNIT_BYTE, 1, 1000000000, 1, 0, 0, 0},
    {"Hz,hertz", UNIT_TIME, -1, 1, 1, 0, 0, 0}, {"kHz", UNIT_TIME, -1, 1000, 1, 0, 0, 0},
    {"MHz", UNIT_TIME, -1, 1000000, 1, 0, 0, 0},
    {"mph", UNIT_LENGTH, 1, 1609344, 3600000, UNIT_TIME, -1, 0},
    {"kmh,kph", UNIT_LENGTH, 1, 1000, 3600, UNIT_TIME, -1, 0},
    {"$,dollar,dollars,USD,usd,buck,bucks", UNIT_DOLLAR, 1, 1, 1, 0, 0, 0},
    {"cent,cents,\xc2\xa2", UNIT_DOLLAR, 1, 1, 100, 0, 0, 0},
    {"euro,euros,EUR", UNIT_EURO, 1, 1, 1, 0, 0, 0},
    {"pounds sterling,GBP,quid,\\pounds", UNIT_POUND_STERLING, 1, 1, 1, 0, 0, 0},
    {"yen,JPY", UNIT_YEN, 1, 1, 1, 0, 0, 0}, {"yuan,CNY,RMB", UNIT_YUAN, 1, 1, 1, 0, 0, 0},
    {"rupee,rupees,Rs,INR", UNIT_RUPEE, 1, 1, 1, 0, 0, 0}, {"won,KRW", UNIT_WON, 1, 1, 1, 0, 0, 0},
    {"ruble,rubles,rouble,roubles", UNIT_RUBLE, 1, 1, 1, 0, 0, 0},
};
#define N_UNIT_ROWS (sizeof(unit_rows) / sizeof(unit_rows[0]))

/* Newtons and such: three dimensions. */
static const struct {
    const char *names;
    int mass, length, time;
    int64_t numerator;
} mechanical_rows[] = {
    {"N,newton,newtons", 1, 1, -2, 1}, {"kN", 1, 1, -2, 1000}, {"J,joule,joules", 1, 2, -2, 1},
    {"kJ,kilojoule,kilojoules", 1, 2, -2, 1000}, {"W,watt,watts", 1, 2, -3, 1},
    {"kW,kilowatt,kilowatts", 1, 2, -3, 1000}, {"Pa,pascal,pascals", 1, -1, -2, 1},
    {"kPa", 1, -1, -2, 1000},
};

static int is_named(const char *names, struct span word)
{
    while (*names) {
        size_t n = strcspn(names, ",");

        if (n == word.length && memcmp(names, word.data, n) == 0)
            return 1;
        names += n + (names[n] == ',');
    }
    return 0;
}

/* numerator / denominator *= (a / b)^power, in lowest terms; 0 on overflow. */
static int multiply(struct unit *unit, int64_t a, int64_t b, int power)
{
    for (int i = power < 0 ? -power : power; i > 0; i--) {
        int64_t top = power < 0 ? b : a, bottom = power < 0 ? a : b, divisor, rest;

        if (__builtin_mul_overflow(unit->numerator, top, &top) ||
            __builtin_mul_overflow(unit->denominator, bottom, &bottom))
            return 0;
        divisor = top;
        rest = bottom;
        while (rest) {
            int64_t next = divisor % rest;
            divisor = rest;
            rest = next;
        }
        unit->numerator = top / divisor;
        unit->denominator = bottom / divisor;
    }
    return 1;
}

static int add_word(struct unit *unit, struct span word, int power)
{
    for (size_t i = 0; i < N_UNIT_ROWS; i++) {
        const struct unit_row *row = &unit_rows[i];

        if (!is_named(row->names, word))
            continue;
        unit->power[row->dimension] += row->power * power;
        unit->power[row->second] += row->second_power * power;
        unit->pi_power += row->pi_power * power;
        return multiply(unit, row->numerator, row->denominator, power);
    }
    for (size_t i = 0; i < sizeof(mechanical_rows) / sizeof(mechanical_rows[0]); i++) {
        if (!is_named(mechanical_rows[i].names, word))
            continue;
        unit->power[UNIT_MASS] += mechanical_rows[i].mass * power;
        unit->power[UNIT_LENGTH] += mechanical_rows[i].length * power;
        unit->power[UNIT_TIME] += mechanical_rows[i].time * power;
        return multiply(unit, mechanical_rows[i].numerator, 1, power);
    }
    return 0;
}

static struct span lower_word(struct span word, char out[32])
{
    if (word.length < 3 || word.length >= 32)
        return word;
    for (size_t i = 0; i < word.length; i++)
        out[i] = (char)tolower((unsigned char)word.data[i]);
    return (struct span){out, word.length};
}

int unit_is_word(struct span word)
{
    struct unit unit = {.numerator = 1, .denominator = 1};
    char lower[32];

    return add_word(&unit, word, 1) || add_word(&unit, lower_word(word, lower), 1);
}

/* The power behind a unit: ^2, ^{2}, 2 or nothing; *at moves on. */
static int take_power(struct span text, size_t *at)
{
    int sign = 1, power = 0;

    if (*at < text.length && text.data[*at] == '^')
        ++*at;
    while (*at < text.length && (text.data[*at] == '{' || text.data[*at] == '-')) {
        sign = text.data[*at] == '-' ? -1 : sign;
        ++*at;
    }
    while (*at < text.length && isdigit((unsigned char)text.data[*at]) && power < 10)
        power = power * 10 + text.data[(*at)++] - '0';
    while (*at < text.length && text.data[*at] == '}')
        ++*at;
    return power ? sign * power : 1;
}

/* Words of a unit that say a power or a quotient. */
static int take_modifier(struct span word, int *next_power, int *quotient)
{
    if (span_is(word, "per") || span_is(word, "an") || span_is(word, "a") || span_is(word, "each"))
        *quotient = 1;
    else if (span_is(word, "square") || span_is(word, "sq"))
        *next_power = 2;
    else if (span_is(word, "cubic") || span_is(word, "cu"))
        *next_power = 3;
    else
        return 0;
    return 1;
}

void unit_read(struct unit *out, struct span text)
{
    int next_power = 1, quotient = 0, n_units = 0;
    char lower[32];

    *out = (struct unit){.numerator = 1, .denominator = 1};
    for (size_t i = 0; i < text.length;) {
        size_t start = i;
        struct span word;

        if (text.data[i] == '/')
            quotient = 1;
        if (strchr("/ ~.*{}\\,()-", text.data[i])) {
            i++;
            continue;
        }
        while (i < text.length && !strchr("/ ~.*^{}\\,()-0123456789", text.data[i]))
            i++;
        word = (struct span){text.data + start, i - start};
        if (!word.length)
            return;   /* a digit where none belongs */
        if (take_modifier(word, &next_power, &quotient))
            continue;
        int power = take_power(text, &i);
        power = next_power != 1 ? next_power : power;
        if (span_is(word, "squared") || span_is(word, "cubed"))
            return;
        if (!add_word(out, word, quotient ? -power : power) &&
            !add_word(out, lower_word(word, lower), quotient ? -power : power))
            return;
        next_power = 1;
        n_units++;
    }
    out->known = n_units > 0;
}
