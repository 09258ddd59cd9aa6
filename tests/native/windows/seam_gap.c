/* The gap for peers that only poll (csrc/lock_gap.h), Windows: see seam.h. */
#include "seam.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the gap for peers that only poll ---- */

/* Acquires the lock when a gap is due: its release begins one. */
static void take_due(msalex_lock *lock, const char *path) {
    put_record(path, MSALEX__HELD, 1, 0);
    CHECK_STATUS(msalex_lock_acquire(lock, 1000, 1000, &error), MSALEX_OK);
}

static void a_gap_that_is_due_keeps_ours_away_and_lets_a_try_in(void) {
    const char *path = path_of("lock");
    msalex_lock *lock = lock_for(path), *other = lock_for(path);
    int64_t before;

    take_due(lock, path);
    before = msalex__now_ms();
    CHECK_STATUS(msalex_lock_release(lock, &error), MSALEX_OK);
    CHECK(!exists(path));
    CHECK_STATUS(msalex_lock_acquire(other, 20, 2000, &error), MSALEX_TIMEOUT); /* a slice of it */
    CHECK(msalex__now_ms() - before < SOON_MS && !exists(path));
    CHECK_STATUS(msalex_lock_acquire(other, 2000, 2000, &error), MSALEX_OK);
    CHECK(msalex__now_ms() - before >= 270 && msalex__now_ms() - before < SOON_MS);
    CHECK_STATUS(msalex_lock_release(other, &error), MSALEX_OK);
    for (int64_t patience = 0; patience <= 100; patience += 100) {
        take_due(lock, path);
        CHECK_STATUS(msalex_lock_release(lock, &error), MSALEX_OK);
        /* To wait for the end of the gap would take longer than this patience. */
        CHECK_STATUS(msalex_lock_acquire(other, patience, patience, &error), MSALEX_OK);
        CHECK_STATUS(msalex_lock_release(other, &error), MSALEX_OK);
    }
    /* A patience that ends with the gap is long enough. */
    for (int i = 0; i < 3; i++) {
        take_due(lock, path);
        CHECK_STATUS(msalex_lock_release(lock, &error), MSALEX_OK);
        CHECK_STATUS(msalex_lock_acquire(other, 270, 270, &error), MSALEX_OK);
        CHECK_STATUS(msalex_lock_release(other, &error), MSALEX_OK);
    }
    /* Nor is there a gap at the next release. */
    CHECK(msalex__gap_of_own(msalex__gap_key(path), msalex__now_ms()) == 0);
    CHECK_STATUS(msalex_lock_acquire(lock, 1000, 1000, &error), MSALEX_OK);
    msalex_lock_free(lock);
    msalex_lock_free(other);
}

/* The record in the lock file. */
static struct msalex__record record_of(const char *path) {
    char bytes[MSALEX__RECORD_SIZE];
    struct msalex__record record = {0};
    wchar_t *wide = msalex__wide_path(path, &error);
    struct msalex__lock_file *file = msalex__lock_file_new(wide, "", 0);
    size_t size;

    CHECK(msalex__lock_file_read_named(file, bytes, &size) == 0);
    CHECK(msalex__record_parse(bytes, size, &record));
    msalex__lock_file_close(file);
    free(wide);
    return record;
}

struct waiter {
    char path[1200];
    int64_t entered;
    struct msalex__record record; /* that it wrote */
    int status;
};

/* Gives the waiter a new spelling of the path, of which this process remembers nothing: the waiter
 * acts as another process. */
static void spell(struct waiter *waiter) {
    static const char dots[] = "././././././././././././././././././././"
                               "././././././././././././././././././././";
    static int number; /* each spelling is longer than the one before */

    CHECK(2 * number < (int)sizeof dots);
    (void)snprintf(waiter->path, sizeof waiter->path, "%s/./%.*slock", directory, 2 * number++,
                   dots);
}

/* Waits for the lock. */
static DWORD WINAPI wait_for_it(void *argument) {
    struct waiter *waiter = argument;
    msalex_lock *lock = lock_for(waiter->path);

    waiter->status = msalex_lock_acquire(lock, 5000, 5000, &error);
    waiter->entered = msalex__now_ms();
    waiter->record = record_of(waiter->path);
    msalex_lock_free(lock);
    return 0;
}

/* A holder begins a gap, and a peer comes in it.  False: this machine was so busy that the gap was
 * over before the peer came. */
static bool a_peer_comes_in_a_gap(const char *path) {
    msalex_lock *lock = lock_for(path);
    struct waiter waiters[3] = {{.path = ""}};
    HANDLE threads[3], peer;
    wchar_t *wide = msalex__wide_path(path, &error);
    int64_t released, left;
    char text[64];
    DWORD size;

    take_due(lock, path);
    for (int i = 0; i < 3; i++) {
        spell(&waiters[i]);
        threads[i] = CreateThread(NULL, 0, wait_for_it, &waiters[i], 0, NULL);
    }
    Sleep(100);
    released = msalex__now_ms();
    CHECK_STATUS(msalex_lock_release(lock, &error), MSALEX_OK);
    Sleep(100);
    peer = CreateFileW(wide, GENERIC_WRITE, FILE_SHARE_READ | FILE_SHARE_WRITE, NULL, CREATE_NEW, 0,
                       NULL);
    if (peer == INVALID_HANDLE_VALUE && msalex__now_ms() - released >= 268) {
        for (int i = 0; i < 3; i++)
            joined(threads[i]);
        msalex_lock_free(lock);
        free(wide);
        return false;
    }
    CHECK(peer != INVALID_HANDLE_VALUE);
    (void)snprintf(text, sizeof text, "%lu a peer", GetCurrentProcessId());
    CHECK(WriteFile(peer, text, (DWORD)strlen(text), &size, NULL));
    Sleep(20);
    msalex__close(peer);
    left = msalex__now_ms();
    CHECK_STATUS(msalex_file_delete(path, &error), MSALEX_OK);
    for (int i = 0; i < 3; i++) {
        joined(threads[i]);
        CHECK(waiters[i].status == MSALEX_OK);
        CHECK(waiters[i].entered >= left && waiters[i].entered - released >= 268);
        CHECK(waiters[i].entered - released < SOON_MS);
        /* They saw a peer: the next gap comes sooner. */
        CHECK(waiters[i].record.when <= waiters[i].entered + 2000);
        CHECK(waiters[i].record.seen >= released);
    }
    msalex_lock_free(lock);
    free(wide);
    return true;
}

static void waiters_read_of_a_gap_in_the_nameless_file_and_a_peer_gets_in(void) {
    for (int queue = 0; queue < 2; queue++) {
        int tries = 6;

        if (queue)
            fake_model_locks((struct fake_rules){.order = FAKE_FIFO});
        while (!a_peer_comes_in_a_gap(path_of("lock")) && --tries > 0)
            ;
        CHECK(tries > 0);
    }
}

static void what_a_record_says_of_gaps_goes_on_to_the_next_holder(void) {
    const char *path = path_of("lock");
    msalex_lock *lock = lock_for(path);
    struct waiter waiter = {.path = ""};
    struct msalex__record before;
    HANDLE thread;

    spell(&waiter);
    msalex__gap_peer_seen(msalex__gap_key(path), msalex__now_ms());
    put_record(path, MSALEX__HELD, msalex__now_ms() + 1000, 0);
    CHECK_STATUS(msalex_lock_acquire(lock, 1000, 1000, &error), MSALEX_OK);
    before = record_of(path);
    CHECK(before.seen != 0 && before.when > msalex__now_ms());
    thread = CreateThread(NULL, 0, wait_for_it, &waiter, 0, NULL);
    Sleep(100);
    CHECK_STATUS(msalex_lock_release(lock, &error), MSALEX_OK);
    joined(thread);
    CHECK(waiter.status == MSALEX_OK);
    CHECK(waiter.record.when == before.when && waiter.record.seen == before.seen);
    msalex_lock_free(lock);
}

static void a_process_that_comes_back_when_a_gap_is_due_suspects_one(void) {
    const char *path = path_of("lock");
    msalex_lock *lock = lock_for(path);

    for (int64_t patience = 2000; patience >= 0; patience -= 2000) {
        const int64_t when = msalex__now_ms() + 150;
        put_record(path, MSALEX__HELD, when, 0);
        CHECK_STATUS(msalex_lock_acquire(lock, 1000, 1000, &error), MSALEX_OK);
        Sleep(100);
        CHECK_STATUS(msalex_lock_release(lock, &error), MSALEX_OK); /* before it is due */
        Sleep(80);
        CHECK(msalex__now_ms() > when && !exists(path));
        CHECK_STATUS(msalex_lock_acquire(lock, patience, patience, &error), MSALEX_OK);
        CHECK(patience == 0 || msalex__now_ms() - when >= 270);
        CHECK(msalex__now_ms() - when < SOON_MS);
        CHECK_STATUS(msalex_lock_release(lock, &error), MSALEX_OK);
    }
    msalex_lock_free(lock);
}

static void a_gap_whose_beginner_died_ends_in_time_and_an_impossible_one_is_none(void) {
    const char *path = path_of("lock");
    msalex_lock *lock = lock_for(path);
    int64_t before = msalex__now_ms();

    put_record(path, MSALEX__GAP, before + 200, 0);
    CHECK_STATUS(msalex_lock_acquire(lock, 2000, 2000, &error), MSALEX_OK);
    CHECK(msalex__now_ms() - before >= 200 && msalex__now_ms() - before < SOON_MS);
    CHECK_STATUS(msalex_lock_release(lock, &error), MSALEX_OK);
    put_record(path, MSALEX__GAP, msalex__now_ms() + 100000, 0);
    CHECK_STATUS(msalex_lock_acquire(lock, 2000, 2000, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_release(lock, &error), MSALEX_OK);
    msalex_lock_free(lock);
}

const struct property gap_properties[] = {
    {"A gap that is due keeps ours away and lets a try in",
     a_gap_that_is_due_keeps_ours_away_and_lets_a_try_in},
    {"Waiters read of a gap in the nameless file and a peer gets in",
     waiters_read_of_a_gap_in_the_nameless_file_and_a_peer_gets_in},
    {"What a record says of gaps goes on to the next holder",
     what_a_record_says_of_gaps_goes_on_to_the_next_holder},
    {"A process that comes back when a gap is due suspects one",
     a_process_that_comes_back_when_a_gap_is_due_suspects_one},
    {"A gap whose beginner died ends in time and an impossible one is none",
     a_gap_whose_beginner_died_ends_in_time_and_an_impossible_one_is_none},
};
const size_t gap_property_count = COUNT(gap_properties);
