# reports.sh - for run_tests and run_tiny: what sanitizers and valgrind report goes to files, also of
# processes that others restart. With VALGRIND=1, $under is what programs are started with. Frames
# stay on their stacks, which the emulated GPU's fibers and the sandbox's clones change. A library of
# tests/shim/ may be put before the sanitizer's: it takes memory from whichever is next.
found=$(mktemp -d)
common="log_path=$found/report"
export ASAN_OPTIONS="$common:detect_stack_use_after_return=0:verify_asan_link_order=0${ASAN_OPTIONS:+:$ASAN_OPTIONS}"
export LSAN_OPTIONS="suppressions=$PWD/tests/lsan.supp:print_suppressions=0${LSAN_OPTIONS:+:$LSAN_OPTIONS}"
export UBSAN_OPTIONS="$common:print_stacktrace=1${UBSAN_OPTIONS:+:$UBSAN_OPTIONS}"
export TSAN_OPTIONS="$common:suppressions=$PWD/tests/tsan.supp${TSAN_OPTIONS:+:$TSAN_OPTIONS}"
under=
if [ "$VALGRIND" = 1 ]; then
    under="valgrind -q --trace-children=yes --num-callers=24 --leak-check=full
           --show-leak-kinds=definite --log-file=$found/report.%p"
fi

# Files with reports; what crashes in tests/plugin/ is meant to. Valgrind also says which system calls
# it does not know, behind "--".
list_reports()
{
    if [ "$VALGRIND" = 1 ]; then
        find "$found" -type f -exec grep -l '^==[0-9]' {} +
    else
        find "$found" -type f -size +0 -exec grep -L 'tests/plugin/' {} +
    fi
}
