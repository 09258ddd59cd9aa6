/*
 * Exercises the library over msalex.h, with no Python in the process, so that sanitizers and
 * valgrind see nothing else.  Prints a line for each property; exits 1 when one does not hold.
 *
 *     exercise                all of them, over the library's files for Linux:
 *                             tests/test_c_sanitizers.py
 *     exercise portable       without those that are about inotify, over the files for macOS and
 *                             the live fake kernel: tests/macos/test_over_fakes.py
 */
#include "exercise.h"

#include <signal.h>

int main(int count, char **arguments) {
    (void)arguments;
    (void)signal(SIGPIPE, SIG_IGN);
    run_properties(lock_properties, lock_property_count);
    run_properties(process_properties, process_property_count);
    run_properties(watch_properties, watch_property_count);
    if (count == 1)
        run_properties(inotify_properties, inotify_property_count);
    run_properties(file_properties, file_property_count);
    run_properties(store_properties, store_property_count);
    return end_of_properties();
}
