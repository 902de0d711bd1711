/*
 * reward/language.h - words of a text by script.
 *
 * Words in the target language / words (arXiv 2501.12948, section 2.3.2). The paper does not say
 * what a word is; here it is a run of letters of one script, and in scripts without blanks each
 * character. Mathematics, code, addresses, digits and TeX commands are no words. Languages of the
 * Latin script cannot be told apart so.
 */
#ifndef HONE_REWARD_LANGUAGE_H
#define HONE_REWARD_LANGUAGE_H

#include <stddef.h>

/* Whether a script is known for the language ("en", "zh", "ko", "ja", "ru", "ar", ...). */
int language_is_known(const char *language);

/* Whether the code point counts as a word by itself: Han and Kana. */
int language_is_character(unsigned code);

#endif
