/* Many waiters, and LockFileEx that answers late: see seam.h. */
#include "seam.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    WAITERS = 8,
    TIMES = 12,      /* that each of a crowd takes the lock */
    CROWD_MS = 60000 /* for all of that */
};

/* ---- LockFileEx that answers late ---- */

static void a_lock_whose_requests_are_answered_late_is_taken_at_once(void) {
    /* Finding 1 of the review of Windows: a try that was still pending was taken back. */
    const DWORD answers_ms[] = {0, 1, 3};
    msalex_lock *lock = lock_for(path_of("lock"));
    int64_t most = 0;

    for (int i = 0; i < 3; i++) {
        fake_model_locks((struct fake_rules){.late = true, .late_ms = answers_ms[i]});
        for (int times = 0; times < 5; times++) {
            const int64_t before = msalex__now_ms();
            CHECK_STATUS(msalex_lock_acquire(lock, 5000, 5000, &error), MSALEX_OK);
            if (most < msalex__now_ms() - before)
                most = msalex__now_ms() - before;
            CHECK_STATUS(msalex_lock_acquire(lock, 0, 0, &error), MSALEX_INVALID);
            CHECK_STATUS(msalex_lock_release(lock, &error), MSALEX_OK);
            CHECK(!exists(path_of("lock")));
        }
    }
    printf("    15 locks taken, in %lld ms at most\n", (long long)most);
    CHECK(most < 4000); /* it was 4200 at least */
    msalex_lock_free(lock);
}

/* ---- order ---- */

static struct {
    CRITICAL_SECTION guard;
    int served[WAITERS], count;
    volatile LONG inside, overlaps, failures;
} scene;

/* How many had entered when this thread, which is just releasing, entered; -1: it is not. */
static _Thread_local int releasing = -1;

/* A holder that releases looks for 63 ms whether a waiter takes the file.  On a busy machine that is
 * too short for a test, so here the first pause lasts until somebody is inside. */
static void wait_until_taken(void) {
    for (int ms = 0; releasing >= 0 && scene.count <= releasing && ms < SOON_MS; ms++)
        Sleep(1);
    releasing = -1;
}

static void begin_scene(void) {
    memset(&scene, 0, sizeof scene);
    InitializeCriticalSection(&scene.guard);
}

/* Returns how many have entered with this one. */
static int enter(int number) {
    int count;

    if (InterlockedIncrement(&scene.inside) != 1)
        (void)InterlockedIncrement(&scene.overlaps);
    EnterCriticalSection(&scene.guard);
    if (scene.count < WAITERS)
        scene.served[scene.count] = number;
    count = ++scene.count;
    LeaveCriticalSection(&scene.guard);
    return count;
}

static void leave(void) {
    (void)InterlockedDecrement(&scene.inside);
}

struct member {
    int number, times;
    int waited_for;  /* so many will enter, and each is waited for; 0: nobody is */
    char path[1200]; /* a spelling of its own, of which this process remembers nothing */
};

static DWORD WINAPI take_turns(void *argument) {
    const struct member *member = argument;
    msalex_error failure;
    msalex_lock *lock = NULL;
    int count;

    if (msalex_lock_new(member->path, "seam", &lock, &failure) != MSALEX_OK)
        return 1;
    for (int i = 0; i < member->times; i++) {
        if (msalex_lock_acquire(lock, CROWD_MS, CROWD_MS, &failure) != MSALEX_OK) {
            (void)InterlockedIncrement(&scene.failures);
            continue;
        }
        count = enter(member->number);
        (void)SwitchToThread();
        leave();
        releasing = count < member->waited_for ? count : -1;
        if (msalex_lock_release(lock, &failure) != MSALEX_OK)
            (void)InterlockedIncrement(&scene.failures);
        releasing = -1;
    }
    msalex_lock_free(lock);
    return 0;
}

static void spell(struct member *member, int number, int times) {
    char dots[2 * WAITERS + 1] = "";

    for (int i = 0; i <= number; i++)
        memcpy(dots + 2 * i, "./", 2);
    *member = (struct member){.number = number, .times = times};
    (void)snprintf(member->path, sizeof member->path, "%s/%slock", directory, dots);
}

static void waiters_are_served_in_the_order_in_which_they_came(void) {
    msalex_lock *lock = lock_for(path_of("lock"));
    struct member members[WAITERS];
    HANDLE threads[WAITERS];

    begin_scene();
    fake_set_pausing(wait_until_taken);
    fake_model_locks((struct fake_rules){.order = FAKE_FIFO});
    CHECK_STATUS(msalex_lock_acquire(lock, 5000, 5000, &error), MSALEX_OK);
    for (int i = 0; i < WAITERS; i++) {
        spell(&members[i], i, 1);
        members[i].waited_for = WAITERS;
        threads[i] = CreateThread(NULL, 0, take_turns, &members[i], 0, NULL);
        CHECK(fake_wait_for_waiting(i + 1));
    }
    releasing = 0;
    CHECK_STATUS(msalex_lock_release(lock, &error), MSALEX_OK);
    for (int i = 0; i < WAITERS; i++)
        joined(threads[i]);
    CHECK(scene.count == WAITERS && scene.overlaps == 0 && scene.failures == 0);
    printf("    served:");
    for (int i = 0; i < WAITERS; i++) {
        printf(" %d", scene.served[i]);
        CHECK(scene.served[i] == i);
    }
    printf("\n");
    msalex_lock_free(lock);
    CHECK(!exists(path_of("lock")));
    DeleteCriticalSection(&scene.guard);
}

/* How often the name goes while a holder hands over to one waiter, and that one releases.  `turn`:
 * of the record that the holder takes over. */
static int removals_after(unsigned turn) {
    const struct msalex__record record = {
        .pid = 99999999, .state = MSALEX__HELD, .turn = turn, .nonce = 7};
    msalex_lock *lock = lock_for(path_of("lock"));
    char bytes[MSALEX__RECORD_SIZE + 1] = "";
    struct member member;
    HANDLE thread;

    begin_scene();
    fake_set_pausing(wait_until_taken);
    fake_model_locks((struct fake_rules){.order = FAKE_FIFO});
    msalex__record_format(&record, "somebody", bytes);
    CHECK_STATUS(put(path_of("lock"), bytes), MSALEX_OK);
    CHECK_STATUS(msalex_lock_acquire(lock, 5000, 5000, &error), MSALEX_OK);
    spell(&member, 0, 1);
    thread = CreateThread(NULL, 0, take_turns, &member, 0, NULL);
    CHECK(fake_wait_for_waiting(1));
    fake_fail(FAKE_DISPOSITION, 0, 0, 0);
    releasing = 0;
    CHECK_STATUS(msalex_lock_release(lock, &error), MSALEX_OK);
    joined(thread);
    CHECK(scene.count == 1 && scene.failures == 0);
    msalex_lock_free(lock);
    DeleteCriticalSection(&scene.guard);
    return fake_count(FAKE_DISPOSITION);
}

static void after_64_turns_the_name_goes_for_peers_that_wait_for_that(void) {
    CHECK(removals_after(62) < removals_after(63));
}

static void in_whatever_order_requests_are_granted_nobody_starves(void) {
    struct fake_rules kinds[] = {
        {.order = FAKE_FIFO},   {.order = FAKE_LIFO},
        {.order = FAKE_RANDOM}, {.order = FAKE_RANDOM, .late = true, .late_ms = 1},
        {.no_queue = true},     {.refuses = true},
        {.no_far_bytes = true}};

    for (size_t kind = 0; kind < COUNT(kinds); kind++) {
        struct member members[WAITERS];
        HANDLE threads[WAITERS];

        begin_scene();
        fake_model_locks(kinds[kind]);
        for (int i = 0; i < WAITERS; i++) {
            spell(&members[i], i, TIMES);
            threads[i] = CreateThread(NULL, 0, take_turns, &members[i], 0, NULL);
        }
        for (int i = 0; i < WAITERS; i++)
            joined(threads[i]);
        CHECK(scene.count == WAITERS * TIMES && scene.overlaps == 0 && scene.failures == 0);
        CHECK(fake_locked() == 0 && fake_waiting() == 0);
        CHECK(!exists(path_of("lock")));
        DeleteCriticalSection(&scene.guard);
    }
}

const struct property queue_properties[] = {
    {"A lock whose requests are answered late is taken at once",
     a_lock_whose_requests_are_answered_late_is_taken_at_once},
    {"Waiters are served in the order in which they came",
     waiters_are_served_in_the_order_in_which_they_came},
    {"After 64 turns the name goes for peers that wait for that",
     after_64_turns_the_name_goes_for_peers_that_wait_for_that},
    {"In whatever order requests are granted nobody starves",
     in_whatever_order_requests_are_granted_nobody_starves},
};
const size_t queue_property_count = COUNT(queue_properties);
