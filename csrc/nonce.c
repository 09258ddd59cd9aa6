/* Numbers by which things are told apart: see internal.h. */
#include "internal.h"

uint64_t msalex__nonce(void) {
    uint64_t mixed = msalex__moment();

    /* The last step of splitmix64 (Steele, Lea, Flood 2014): a change of one bit changes all
     * digits. */
    mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9;
    mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111eb;
    return mixed ^ mixed >> 31;
}

uint64_t msalex__hash(const char *bytes, size_t size) {
    uint64_t hash = 0xcbf29ce484222325; /* FNV-1a (Fowler, Noll, Vo) */

    for (size_t i = 0; i < size; i++)
        hash = (hash ^ (unsigned char)bytes[i]) * 0x100000001b3;
    return hash;
}
