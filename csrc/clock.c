/* Deadlines, without overflow: see internal.h. */
#include "internal.h"

int64_t msalex__deadline(int64_t timeout_ms) {
    const int64_t now = msalex__now_ms();
    return timeout_ms < 0 || timeout_ms >= INT64_MAX - now ? INT64_MAX : now + timeout_ms;
}

int64_t msalex__time_left(int64_t deadline) {
    const int64_t left = deadline == INT64_MAX ? -1 : deadline - msalex__now_ms();
    return left >= 0 || deadline == INT64_MAX ? left : 0;
}
