/* The lists of properties that exercise.c runs. */
#ifndef MSALEX_EXERCISE_H
#define MSALEX_EXERCISE_H

#include "check.h"

extern const struct property lock_properties[], process_properties[], file_properties[],
    store_properties[], watch_properties[], inotify_properties[];
extern const size_t lock_property_count, process_property_count, file_property_count,
    store_property_count, watch_property_count, inotify_property_count;

#endif
