/* The gap for peers that only poll: see lock_gap.h. */
#include "lock_gap.h"

#include <stddef.h>
#include <string.h>

#include "internal.h"

enum {
    FIRST_MS = 4100,      /* a peer that waits for 5 s meets one gap... */
    EAGER_MS = 250,       /* ...and one more, if a peer was seen in it */
    AGAIN_MS = 2000,      /* a peer that waits for 5 s meets two */
    GAP_MS = 270,         /* 1.3.1 looks every 250 ms */
    PEER_SEEN_MS = 20000, /* a peer that was seen counts for this time */
    PAUSE_OF_HOLD = 4,    /* a pause that is shorter than a fourth of the hold is none */
    RETURN_OF_HOLD = 4,   /* busy: a process comes back within four times its hold */
    LOCKS_MAX = 16        /* which a process remembers */
};

struct memory {
    uint64_t key;            /* 0: free */
    int64_t used;            /* when it was used last */
    struct msalex__gap said; /* by the record, when the lock was given back */
    int64_t since, released;
    int64_t until;
    int64_t peer_seen; /* by this process; 0: never */
};

static struct memory memories[LOCKS_MAX];

uint64_t msalex__gap_key(const char *path) {
    const uint64_t hash = msalex__hash(path, strlen(path));
    return hash != 0 ? hash : 1;
}

static struct memory *find(uint64_t key) {
    for (size_t i = 0; i < LOCKS_MAX; i++) {
        if (memories[i].key == key)
            return &memories[i];
    }
    return NULL;
}

/* Makes an entry in the place of the one that was not used for the longest time. */
static struct memory *find_or_make(uint64_t key, int64_t now) {
    struct memory *memory = find(key);

    if (memory == NULL) {
        memory = &memories[0];
        for (size_t i = 1; i < LOCKS_MAX; i++) {
            if (memories[i].used < memory->used)
                memory = &memories[i];
        }
        *memory = (struct memory){.key = key};
    }
    memory->used = now;
    return memory;
}

/* What this process remembers of a lock; all zero: nothing. */
static struct memory recall(uint64_t key) {
    const struct memory *found;
    struct memory memory = {0};

    msalex__registry_enter();
    if ((found = find(key)) != NULL)
        memory = *found;
    msalex__registry_leave();
    return memory;
}

static bool is_lately(int64_t seen, int64_t now) {
    return seen > 0 && seen <= now && now - seen <= PEER_SEEN_MS;
}

/* What shall be written into a file that says `said`, or that follows one that said so? */
static struct msalex__gap plan(const struct memory *memory, struct msalex__gap said, int64_t now) {
    const bool was_known = is_lately(said.seen, now);
    int64_t latest;

    if (memory->peer_seen > said.seen || said.seen > now)
        said.seen = memory->peer_seen;
    latest = now + (!is_lately(said.seen, now) ? FIRST_MS : was_known ? AGAIN_MS : EAGER_MS);
    if (said.when <= 0 || said.when > latest)
        said.when = latest;
    return said;
}

struct msalex__gap msalex__gap_of_new_file(uint64_t key, struct msalex__gap said, int64_t now) {
    const struct memory memory = recall(key);

    if (memory.said.seen > said.seen)
        said.seen = memory.said.seen;
    if (said.when == 0 && now - memory.released <= (memory.released - memory.since) / PAUSE_OF_HOLD)
        said.when = memory.said.when;
    return plan(&memory, said, now);
}

struct msalex__gap msalex__gap_of_taken_file(uint64_t key, struct msalex__gap said, int64_t now) {
    const struct memory memory = recall(key);
    return plan(&memory, said, now);
}

int64_t msalex__gap_begin(uint64_t key, struct msalex__gap said, int64_t since, int64_t now) {
    const int64_t until = said.when != 0 && said.when <= now ? now + GAP_MS : 0;
    struct memory *memory;

    if (until != 0)
        said.when = 0;
    msalex__registry_enter();
    memory = find_or_make(key, now);
    memory->said = said;
    memory->since = since;
    memory->released = now;
    memory->until = until;
    msalex__registry_leave();
    return until;
}

int64_t msalex__gap_check(int64_t until, int64_t now) {
    return until > now && until <= now + GAP_MS ? until : 0;
}

int64_t msalex__gap_of_own(uint64_t key, int64_t now) {
    return msalex__gap_check(recall(key).until, now);
}

int64_t msalex__gap_suspected(uint64_t key, int64_t now) {
    const struct memory memory = recall(key);
    const int64_t due = memory.said.when;

    if (due == 0 || now < due ||
        now - memory.released > (memory.released - memory.since) * RETURN_OF_HOLD)
        return 0;
    return msalex__gap_check((due > memory.released ? due : memory.released) + GAP_MS, now);
}

void msalex__gap_peer_seen(uint64_t key, int64_t now) {
    msalex__registry_enter();
    find_or_make(key, now)->peer_seen = now;
    msalex__registry_leave();
}

bool msalex__gap_was_peer_seen(uint64_t key, int64_t now) {
    const struct memory memory = recall(key);
    return is_lately(memory.peer_seen, now) || is_lately(memory.said.seen, now);
}
