/* Numbers that occur once: see internal.h. */
#include "internal.h"

uint64_t msalex__nonce(void) {
    uint64_t mixed = msalex__moment();

    /* The finalizer of splitmix64 (Steele, Lea, Flood 2014), so that all digits differ. */
    mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9;
    mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111eb;
    return mixed ^ mixed >> 31;
}
