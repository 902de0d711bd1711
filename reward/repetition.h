/*
 * reward/repetition.h - how much of a text has been there before.
 */
#ifndef HONE_REWARD_REPETITION_H
#define HONE_REWARD_REPETITION_H

#include <stddef.h>

#define REPETITION_MAX_WORDS 64

/* 1 - distinct / all sequences of n_words (1 .. REPETITION_MAX_WORDS) words. Words end at blanks,
 * ASCII case is ignored; Han and Kana characters are words by themselves. */
double repetition_of_words(const char *text, size_t n, size_t n_words);

#endif
