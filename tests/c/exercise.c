/*
 * Exercises the library over msalex.h, with no Python in the process, so that sanitizers and
 * valgrind see nothing but it.  Prints a line for each property; exits 1 when one does not
 * hold.  Run by tests/test_c_sanitizers.py.
 */
#include <signal.h>
#include <stdio.h>

#include "check.h"

int main(void) {
    int failed = 0;

    (void)signal(SIGPIPE, SIG_IGN);
    failed += run_properties(lock_properties, lock_property_count);
    failed += run_properties(process_properties, process_property_count);
    failed += run_properties(watch_properties, watch_property_count);
    failed += run_properties(file_properties, file_property_count);
    failed += run_properties(store_properties, store_property_count);
    printf("%d checks failed\n", failed);
    return failed == 0 ? 0 : 1;
}
