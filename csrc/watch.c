/* When a watch looks by itself: see watch.h. */
#include "watch.h"

#include "internal.h"

int64_t msalex__watch_next_look(bool is_told, int64_t *blind_since) {
    const int64_t now = msalex__now_ms();

    if (is_told) {
        *blind_since = 0;
        return now + MSALEX__LOOK_MS;
    }
    if (*blind_since == 0)
        *blind_since = now;
    return now + (now - *blind_since < MSALEX__EAGER_MS ? MSALEX__BLIND_MS : MSALEX__LOOK_MS);
}
