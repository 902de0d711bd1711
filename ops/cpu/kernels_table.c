#include "ops/cpu/strip.h"

#define TEXT(x) #x
#define EXPANDED_TEXT(x) TEXT(x)

const struct kernels KERNEL_EXPAND(kernels, KERNEL_ISA) = {
    .name = EXPANDED_TEXT(KERNEL_ISA),
    .tile_rows = TILE_ROWS,
    .tile_panels = TILE_PANELS,
    .pair_words = PAIR_WORDS,
#define X(kernel, arguments) .kernel = KERNEL(kernel),
    KERNEL_LIST(X)
#undef X
#define X(type, kernel, arguments) .kernel = KERNEL(kernel),
        KERNEL_LIST_VALUES(X)
#undef X
};
