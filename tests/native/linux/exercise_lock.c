/* The lock between processes and threads: see msalex.h for the promises. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include "exercise.h"

static const char PATH[] = "cache.lockfile";

static msalex_lock *new_lock(const char *path) {
    msalex_lock *lock = NULL;
    CHECK_STATUS(msalex_lock_new(path, "exercise", &lock, &error), MSALEX_OK);
    return lock;
}

static msalex_lock *held_lock(const char *path) {
    msalex_lock *lock = new_lock(path);
    CHECK_STATUS(msalex_lock_acquire(lock, 2000, 2000, &error), MSALEX_OK);
    return lock;
}

/* The status of one try.  Leaves nothing behind. */
static int try_once(const char *path) {
    msalex_lock *lock = new_lock(path);
    int status = msalex_lock_acquire(lock, 0, 0, &error);
    msalex_lock_free(lock);
    return status;
}

static bool vanishes(const char *path) {
    for (int tries = 0; tries < 500 && file_exists(path); tries++)
        sleep_ms(10);
    return !file_exists(path);
}

static void file_lives_as_long_as_the_hold(void) {
    msalex_buffer holder = {0};
    char expected[64];
    msalex_lock *lock = new_lock(PATH);

    CHECK(!file_exists(PATH));
    CHECK_STATUS(msalex_lock_check(lock, &error), MSALEX_NOT_FOUND);
    CHECK_STATUS(msalex_lock_holder(PATH, &holder, &error), MSALEX_NOT_FOUND);
    CHECK(holder.data == NULL && holder.size == 0);
    CHECK_STATUS(msalex_lock_acquire(lock, 1000, 1000, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_check(lock, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_holder(PATH, &holder, &error), MSALEX_OK);
    (void)snprintf(expected, sizeof expected, "%d exercise", (int)getpid());
    CHECK(holder.size == strlen(expected) && memcmp(holder.data, expected, holder.size) == 0);
    msalex_buffer_free(&holder);
    CHECK_STATUS(msalex_lock_acquire(lock, 0, 0, &error), MSALEX_INVALID);
    CHECK_STATUS(msalex_lock_release(lock, &error), MSALEX_OK);
    CHECK(!file_exists(PATH));
    CHECK_STATUS(msalex_lock_release(lock, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_acquire(lock, -1, -1, &error), MSALEX_OK);
    msalex_lock_free(lock); /* releases */
    CHECK(!file_exists(PATH));
    msalex_lock_free(NULL);
}

static void second_waits_its_time_and_no_longer(void) {
    msalex_lock *first = held_lock(PATH), *second = new_lock(PATH);
    int64_t start = now_ms();

    CHECK_STATUS(try_once(PATH), MSALEX_TIMEOUT);
    CHECK(now_ms() - start < 10000);
    start = now_ms();
    CHECK_STATUS(msalex_lock_acquire(second, 100, 100, &error), MSALEX_TIMEOUT);
    CHECK(now_ms() - start >= 99 && now_ms() - start < 10000);
    CHECK_STATUS(msalex_lock_check(second, &error), MSALEX_NOT_FOUND);
    CHECK_STATUS(msalex_lock_release(first, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_acquire(second, 2000, 2000, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_release(second, &error), MSALEX_OK);
    CHECK(vanishes(PATH));
    msalex_lock_free(first);
    msalex_lock_free(second);
}

struct visitor {
    const char *path;
    int *inside, visits, overlaps, status;
};

static void *visit(void *argument) {
    struct visitor *visitor = argument;
    msalex_error own;
    msalex_lock *lock;

    visitor->status = msalex_lock_new(visitor->path, "visitor", &lock, &own);
    for (int i = 0; i < 50 && visitor->status == MSALEX_OK; i++) {
        visitor->status = msalex_lock_acquire(lock, 60000, 60000, &own);
        if (visitor->status != MSALEX_OK)
            break;
        visitor->overlaps += __atomic_fetch_add(visitor->inside, 1, __ATOMIC_SEQ_CST);
        visitor->visits++;
        (void)__atomic_sub_fetch(visitor->inside, 1, __ATOMIC_SEQ_CST);
        visitor->status = msalex_lock_release(lock, &own);
    }
    msalex_lock_free(lock);
    return NULL;
}

static void threads_exclude_each_other_on_one_path_only(void) {
    int inside[2] = {0, 0};
    struct visitor visitors[6] = {0};
    pthread_t threads[6];

    for (size_t i = 0; i < 6; i++) {
        visitors[i].path = i % 2 == 0 ? PATH : "other.lockfile";
        visitors[i].inside = &inside[i % 2];
        CHECK(pthread_create(&threads[i], NULL, visit, &visitors[i]) == 0);
    }
    for (size_t i = 0; i < 6; i++) {
        (void)pthread_join(threads[i], NULL);
        CHECK(visitors[i].status == MSALEX_OK);
        CHECK(visitors[i].visits == 50 && visitors[i].overlaps == 0);
    }
    CHECK(vanishes(PATH) && vanishes("other.lockfile"));
}

static void abandoned_wait_is_adopted(void) {
    msalex_lock *first = held_lock(PATH), *next;

    for (int i = 0; i < 20; i++) {
        next = new_lock(PATH);
        CHECK_STATUS(msalex_lock_acquire(next, 2, 2, &error), MSALEX_TIMEOUT);
        if (i % 2 == 0)
            CHECK_STATUS(msalex_lock_release(next, &error), MSALEX_OK);
        msalex_lock_free(next);
    }
    next = new_lock(PATH);
    CHECK_STATUS(msalex_lock_acquire(next, 20, 20, &error), MSALEX_TIMEOUT);
    CHECK_STATUS(msalex_lock_release(first, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_acquire(next, 2000, 2000, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_check(next, &error), MSALEX_OK);
    CHECK_STATUS(try_once(PATH), MSALEX_TIMEOUT);
    CHECK_STATUS(msalex_lock_release(next, &error), MSALEX_OK);
    CHECK(vanishes(PATH));
    msalex_lock_free(next);
    msalex_lock_free(first);
}

static void abandoned_wait_gives_back_what_it_gets(void) {
    for (int i = 0; i < 20; i++) {
        msalex_lock *first = held_lock(PATH), *second = new_lock(PATH);
        CHECK_STATUS(msalex_lock_acquire(second, 1, 1, &error), MSALEX_TIMEOUT);
        msalex_lock_free(second);
        msalex_lock_free(first);
        first = held_lock(PATH);
        msalex_lock_free(first);
        CHECK(vanishes(PATH));
    }
}

/* Another program has the lock file open and holds its flock, so that our flock queues.  An OFD
 * lock on the descriptor stands for the fcntl lock of a peer: each excludes the other
 * (fcntl(2)). */
static int open_and_flock(const char *path) {
    int fd = open(path, O_RDWR | O_CLOEXEC);
    CHECK(fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0);
    return fd;
}

/* The holder of one of our files died, and a waiter of ours has given up, but its thread is still
 * queued in flock.  Meanwhile a peer has taken the file, which the flock does not show. */
static void leave_a_wait_for(bool has_fcntl_lock) {
    struct flock range = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    msalex_lock *dead = held_lock(PATH), *waiter = new_lock(PATH);
    char record[256];
    int fd = open(PATH, O_RDWR | O_CLOEXEC), peer;

    CHECK(fd >= 0 && pread(fd, record, sizeof record, 0) == sizeof record && close(fd) == 0);
    CHECK_STATUS(msalex_lock_release(dead, &error), MSALEX_OK);
    fd = open(PATH, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    CHECK(fd >= 0 && write(fd, record, sizeof record) == sizeof record && close(fd) == 0);
    peer = open_and_flock(PATH);
    CHECK_STATUS(msalex_lock_acquire(waiter, 5, 5, &error), MSALEX_TIMEOUT);
    msalex_lock_free(waiter);
    if (has_fcntl_lock)
        CHECK(fcntl(peer, F_OFD_SETLK, &range) == 0);
    else
        CHECK(pwrite(peer, "{1} {go}", 8, 0) == 8);
    CHECK(flock(peer, LOCK_UN) == 0); /* now the thread is granted it */
    sleep_ms(20);
    CHECK(file_exists(PATH));
    CHECK(close(peer) == 0 && unlink(PATH) == 0);
    msalex_lock_free(dead);
}

static void abandoned_wait_leaves_a_peers_file_alone(void) {
    for (int i = 0; i < 5; i++) {
        leave_a_wait_for(true);
        leave_a_wait_for(false);
    }
}

static void release_of_a_wait_that_was_granted_gives_it_back(void) {
    for (int i = 0; i < 20; i++) {
        msalex_lock *first = held_lock(PATH), *second = new_lock(PATH);
        CHECK_STATUS(msalex_lock_acquire(second, 5, 5, &error), MSALEX_TIMEOUT);
        CHECK_STATUS(msalex_lock_release(first, &error), MSALEX_OK);
        if (i % 2 == 0)
            sleep_ms(5); /* it is granted meanwhile, and no call asks */
        CHECK_STATUS(msalex_lock_release(second, &error), MSALEX_OK);
        CHECK_STATUS(msalex_lock_acquire(first, 2000, 2000, &error), MSALEX_OK);
        CHECK_STATUS(msalex_lock_release(first, &error), MSALEX_OK);
        CHECK(vanishes(PATH));
        msalex_lock_free(first);
        msalex_lock_free(second);
    }
}

static void removed_file_is_noticed_and_another_s_is_left_alone(void) {
    msalex_lock *lock = held_lock(PATH);

    CHECK(unlink(PATH) == 0);
    CHECK_STATUS(msalex_lock_check(lock, &error), MSALEX_NOT_FOUND);
    CHECK_STATUS(msalex_lock_release(lock, &error), MSALEX_NOT_FOUND);
    CHECK_STATUS(msalex_lock_acquire(lock, 1000, 1000, &error), MSALEX_OK);
    CHECK(unlink(PATH) == 0);
    write_text(PATH, "1 somebody else");
    CHECK_STATUS(msalex_lock_check(lock, &error), MSALEX_NOT_FOUND);
    CHECK_STATUS(msalex_lock_release(lock, &error), MSALEX_NOT_FOUND);
    CHECK(has_text(PATH, "1 somebody else"));
    msalex_lock_free(lock);
}

static const char PLACE[] = "directory/lockfile";

static void exchange_directory(void) {
    CHECK(rename("directory", "gone") == 0 && mkdir("directory", 0700) == 0);
}

static void lock_is_lost_where_its_path_leads_elsewhere(void) {
    msalex_lock *lock;

    CHECK(mkdir("directory", 0700) == 0);
    lock = held_lock(PLACE);
    CHECK_STATUS(msalex_lock_check(lock, &error), MSALEX_OK);
    exchange_directory();
    CHECK_STATUS(msalex_lock_check(lock, &error), MSALEX_NOT_FOUND);
    write_text(PLACE, "1 somebody else");
    CHECK_STATUS(msalex_lock_check(lock, &error), MSALEX_NOT_FOUND);
    CHECK_STATUS(msalex_lock_release(lock, &error), MSALEX_OK);
    CHECK(has_text(PLACE, "1 somebody else") && !file_exists("gone/lockfile"));
    CHECK(unlink(PLACE) == 0 && rmdir("gone") == 0 && symlink("directory", "gone") == 0);
    CHECK_STATUS(msalex_lock_acquire(lock, 1000, 1000, &error), MSALEX_OK);
    CHECK_STATUS(try_once("gone/lockfile"), MSALEX_TIMEOUT);
    CHECK(unlink("gone") == 0 && rename("directory", "gone") == 0);
    CHECK(symlink("gone", "directory") == 0);
    CHECK_STATUS(msalex_lock_check(lock, &error), MSALEX_OK); /* the same directory */
    msalex_lock_free(lock);
    CHECK(unlink("directory") == 0 && rmdir("gone") == 0);
}

static void waiter_gets_the_lock_where_its_path_leads(void) {
    for (int i = 0; i < 4; i++) {
        msalex_lock *first, *second = new_lock(PLACE), *third = new_lock(PLACE);
        CHECK(mkdir("directory", 0700) == 0);
        first = held_lock(PLACE);
        CHECK_STATUS(msalex_lock_acquire(second, 20, 20, &error), MSALEX_TIMEOUT);
        if (i % 2 == 0) /* another one leaves a wait there for the next one */
            CHECK_STATUS(msalex_lock_acquire(third, 20, 20, &error), MSALEX_TIMEOUT);
        exchange_directory();
        CHECK_STATUS(msalex_lock_release(third, &error), MSALEX_OK);
        if (i < 2)
            CHECK_STATUS(msalex_lock_acquire(third, 1000, 1000, &error), MSALEX_OK);
        CHECK_STATUS(msalex_lock_release(first, &error), MSALEX_OK);
        CHECK_STATUS(msalex_lock_release(third, &error), MSALEX_OK);
        CHECK_STATUS(msalex_lock_acquire(second, 5000, 5000, &error), MSALEX_OK);
        CHECK_STATUS(msalex_lock_check(second, &error), MSALEX_OK);
        CHECK(file_exists(PLACE));
        msalex_lock_free(first);
        msalex_lock_free(second);
        msalex_lock_free(third);
        CHECK(vanishes(PLACE) && vanishes("gone/lockfile"));
        CHECK(rmdir("directory") == 0 && rmdir("gone") == 0);
    }
}

static void text_of_a_lock_file_is_one_line_of_printable_characters(void) {
    static const struct {
        const char *written, *shown;
    } texts[] = {
        {"1 az  \n", "1 az"},
        {"1 \033[2J\r\007az\nforged", "1 ?[2J??az"},
        {"1 k\xc3\xa4se \xe6\x97\xa5 \xf0\x9f\x98\x80 ",
         "1 k\xc3\xa4se \xe6\x97\xa5 \xf0\x9f\x98\x80"},
        {"1 \xc2\x9b \xe2\x80\xae \xe2\x81\xa6", "1 ?? ??? ???"},
        {"1 \xff \xc0\xaf \xed\xa0\x80 \xf4\x90\x80\x80 \xe6\x97", "1 ? ?? ??? ???? ??"},
        {"\n1 az", ""},
        {"", ""},
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        msalex_buffer holder = {0};
        write_text(PATH, texts[i].written);
        CHECK_STATUS(msalex_lock_holder(PATH, &holder, &error), MSALEX_OK);
        CHECK(holder.size == strlen(texts[i].shown));
        CHECK(holder.size == 0 || memcmp(holder.data, texts[i].shown, holder.size) == 0);
        msalex_buffer_free(&holder);
    }
    CHECK(unlink(PATH) == 0);
}

static void impossible_paths_fail_at_once(void) {
    char name[300];

    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    CHECK(mkdir("directory", 0700) == 0 && symlink("nowhere", "link") == 0);
    CHECK(mkfifo("fifo", 0600) == 0);
    CHECK_STATUS(try_once("missing/lockfile"), MSALEX_NOT_FOUND);
    CHECK_STATUS(try_once("directory"), MSALEX_INVALID);
    CHECK_STATUS(try_once("link"), MSALEX_INVALID);
    CHECK_STATUS(try_once("fifo"), MSALEX_INVALID);
    CHECK_STATUS(try_once(name), MSALEX_INVALID);
    CHECK_STATUS(try_once(""), MSALEX_NOT_FOUND);
    CHECK(!file_exists("nowhere"));
}

struct leaver {
    msalex_lock *lock; /* gives this back, or removes the file when NULL */
    int status;
};

static void *leave_soon(void *argument) {
    struct leaver *leaver = argument;
    msalex_error own;

    sleep_ms(20);
    leaver->status = leaver->lock != NULL ? msalex_lock_release(leaver->lock, &own) : unlink(PATH);
    return NULL;
}

/* Acquires a lock that another thread leaves soon, with timeouts of that size. */
static void wait_for_leaver(struct leaver leaver, int64_t slice_ms, int64_t patience_ms) {
    msalex_lock *lock = new_lock(PATH);
    pthread_t thread;

    CHECK(pthread_create(&thread, NULL, leave_soon, &leaver) == 0);
    CHECK_STATUS(msalex_lock_acquire(lock, slice_ms, patience_ms, &error), MSALEX_OK);
    (void)pthread_join(thread, NULL);
    CHECK(leaver.status == 0);
    CHECK_STATUS(msalex_lock_release(lock, &error), MSALEX_OK);
    msalex_lock_free(lock);
}

static void timeouts_of_any_size_are_right(void) {
    static const int64_t sizes[] = {
        INT64_MAX, INT64_MAX - 1, INT64_MAX / 1000, (int64_t)1 << 62, INT64_MIN, INT64_MIN + 1, -1};
    char text[32];

    (void)snprintf(text, sizeof text, "%d a peer", (int)getpid());
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        const int64_t size = sizes[i], start = now_ms();
        msalex_lock *lock = new_lock(PATH), *other = new_lock(PATH);

        CHECK_STATUS(msalex_lock_acquire(lock, size, size, &error), MSALEX_OK);
        CHECK_STATUS(msalex_lock_acquire(other, size, 0, &error), MSALEX_TIMEOUT);
        CHECK_STATUS(msalex_lock_acquire(other, 0, size, &error), MSALEX_TIMEOUT);
        CHECK_STATUS(msalex_lock_acquire(other, 1, size, &error), MSALEX_TIMEOUT);
        CHECK_STATUS(msalex_lock_acquire(other, size, 1, &error), MSALEX_TIMEOUT);
        CHECK_STATUS(msalex_lock_release(other, &error), MSALEX_OK);
        wait_for_leaver((struct leaver){.lock = lock}, size, size);
        write_text(PATH, text);
        CHECK_STATUS(msalex_lock_acquire(other, size, 0, &error), MSALEX_TIMEOUT);
        CHECK_STATUS(msalex_lock_acquire(other, 1, size, &error), MSALEX_TIMEOUT);
        wait_for_leaver((struct leaver){.lock = NULL}, size, size);
        CHECK(now_ms() - start < 10000);
        msalex_lock_free(other);
        msalex_lock_free(lock);
    }
}

static void handle_alarm(int number) {
    (void)number;
}

static void signal_interrupts_a_wait_which_keeps_its_place(void) {
    const struct sigaction action = {.sa_handler = handle_alarm};
    const struct itimerval soon = {.it_value = {.tv_usec = 50000}};
    msalex_lock *first = held_lock(PATH), *second = new_lock(PATH);
    int64_t start = now_ms();

    CHECK(sigaction(SIGALRM, &action, NULL) == 0 && setitimer(ITIMER_REAL, &soon, NULL) == 0);
    CHECK_STATUS(msalex_lock_acquire(second, 20000, 20000, &error), MSALEX_INTERRUPTED);
    CHECK(now_ms() - start < 5000 && signal(SIGALRM, SIG_DFL) != SIG_ERR);
    CHECK_STATUS(msalex_lock_release(first, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_acquire(second, 2000, 2000, &error), MSALEX_OK);
    msalex_lock_free(second);
    msalex_lock_free(first);
    CHECK(vanishes(PATH));
}

const struct property lock_properties[] = {
    {"The lock file is there while the lock is held, and names the holder",
     file_lives_as_long_as_the_hold},
    {"A second one waits as long as it was told to, and gets the lock when it is free",
     second_waits_its_time_and_no_longer},
    {"Threads exclude each other on one path, and only there",
     threads_exclude_each_other_on_one_path_only},
    {"A wait that was given up is taken over by the next one here", abandoned_wait_is_adopted},
    {"A wait that was given up gives the lock back when it gets it",
     abandoned_wait_gives_back_what_it_gets},
    {"A wait that was given up leaves a file alone that has become a peer's meanwhile",
     abandoned_wait_leaves_a_peers_file_alone},
    {"A waiter that releases instead of acquiring leaves a free lock",
     release_of_a_wait_that_was_granted_gives_it_back},
    {"A lock file that somebody removed or replaced is noticed, and left alone",
     removed_file_is_noticed_and_another_s_is_left_alone},
    {"A lock whose path leads to another directory is lost; its release removes its own file only",
     lock_is_lost_where_its_path_leads_elsewhere},
    {"A waiter gets the lock where its path leads when the wait is over",
     waiter_gets_the_lock_where_its_path_leads},
    {"What a lock file says of its holder is shown as one line of printable characters",
     text_of_a_lock_file_is_one_line_of_printable_characters},
    {"A timeout of any size ends when it shall, and not before", timeouts_of_any_size_are_right},
    {"A path that can be no lock file fails at once and is left as it is",
     impossible_paths_fail_at_once},
    {"A signal interrupts a wait, which keeps its place",
     signal_interrupts_a_wait_which_keeps_its_place},
};
const size_t lock_property_count = COUNT(lock_properties);
