/*
 * The properties of tests/c over the macOS files and the live fake kernel: all but the few of
 * the watch that are about inotify.  Run by tests/test_macos.py.
 */
#include "../c/exercise_watch.c"

/* Its limits, events that leave no trace a look could find, and a wait that does not poll. */
static const char *const OF_LINUX[] = {
    "More events", "The kernel wakes", "uses no processor", "takes no event from its parent"};

static bool is_of_linux(const char *sentence) {
    for (size_t i = 0; i < sizeof OF_LINUX / sizeof OF_LINUX[0]; i++) {
        if (strstr(sentence, OF_LINUX[i]) != NULL)
            return true;
    }
    return false;
}

int main(void) {
    int failed = 0;

    failed += run_properties(lock_properties, lock_property_count);
    failed += run_properties(process_properties, process_property_count);
    failed += run_properties(file_properties, file_property_count);
    failed += run_properties(store_properties, store_property_count);
    for (size_t i = 0; i < watch_property_count; i++) {
        if (!is_of_linux(watch_properties[i].sentence))
            failed += run_properties(&watch_properties[i], 1);
    }
    printf("%d checks failed\n", failed);
    return failed == 0 ? 0 : 1;
}
