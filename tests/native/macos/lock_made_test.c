/*
 * How the macOS lock makes its file, and where, over a kernel with a script (lock_script.h).
 * Run by tests/macos/test_over_fakes.py.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "fake_kernel.h"
#include "lock_record.h"
#include "lock_script.h"

static void no_flock(void) {
    start(wait_script);
    fake_kernel.failing = "flock";
    fake_kernel.code = ENOTSUP;
    fake_kernel.always = true;
    CHECK_STATUS(msalex_lock_acquire(holder, 0, 0, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_check(holder, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_acquire(waiter, 1000, 1000, &error), MSALEX_TIMEOUT);
    event = holder_releases;
    CHECK_STATUS(msalex_lock_acquire(waiter, 1000, 1000, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_release(waiter, &error), MSALEX_OK);

    write_peer(dead_pid()); /* without flock, stale files are removed under a guard */
    write_text("cache.lockfile.stale", "");
    event = NULL;
    CHECK_STATUS(msalex_lock_acquire(waiter, 100, 100, &error), MSALEX_TIMEOUT);
    CHECK(unlink("cache.lockfile.stale") == 0);
    CHECK_STATUS(msalex_lock_acquire(waiter, 100, 100, &error), MSALEX_OK);
    CHECK(!file_exists("cache.lockfile.stale"));
    CHECK_STATUS(msalex_lock_release(waiter, &error), MSALEX_OK);

    fake_kernel.failing = NULL; /* the holder has its flock: a try that fails is an error */
    CHECK_STATUS(msalex_lock_acquire(holder, 0, 0, &error), MSALEX_OK);
    fake_kernel.failing = "flock";
    fake_kernel.code = EIO;
    CHECK_STATUS(msalex_lock_acquire(waiter, 100, 100, &error), MSALEX_OS_ERROR);
    CHECK(error.code == EIO);
    end();
}

static void no_exclusive_rename(void) {
    static const int link_codes[] = {0, EPERM, ENOTSUP}; /* linked; in place */
    for (size_t i = 0; i < 3; i++) {
        start(wait_script);
        fake_kernel.rename_code = ENOTSUP;
        fake_kernel.link_code = link_codes[i];
        CHECK_STATUS(msalex_lock_acquire(holder, 0, 0, &error), MSALEX_OK);
        CHECK_STATUS(msalex_lock_acquire(waiter, 100, 100, &error), MSALEX_TIMEOUT);
        event = holder_releases;
        CHECK_STATUS(msalex_lock_acquire(waiter, 100, 100, &error), MSALEX_OK);
        CHECK(count_entries(".") == 1); /* no temporary file */
        CHECK_STATUS(msalex_lock_release(waiter, &error), MSALEX_OK);
        CHECK(count_entries(".") == 0);
        end();
    }
}

/* In place: after the temporary file's, the second try is the real file's. */
static int tries_left;
static void fail_a_later_try(int fd) {
    (void)fd;
    if (--tries_left == 0)
        fake_kernel.failing = "flock";
}

static void created_file_is_caught(void) {
    start(wait_script);
    fake_kernel.rename_code = fake_kernel.link_code = ENOTSUP;
    fake_kernel.trying = fail_a_later_try;
    fake_kernel.code = EWOULDBLOCK; /* a peer was faster with its flock */
    tries_left = 2;
    CHECK_STATUS(msalex_lock_acquire(waiter, 100, 100, &error), MSALEX_TIMEOUT);
    CHECK(file_exists(PATH)); /* it is the peer's */
    CHECK_STATUS(msalex_lock_release(waiter, &error), MSALEX_OK);
    CHECK(unlink(PATH) == 0);

    /* The file was made, and cannot be told from a peer's: nobody removes it before it is old. */
    fake_kernel.code = EIO;
    tries_left = 2;
    CHECK_STATUS(msalex_lock_acquire(waiter, 100, 100, &error), MSALEX_TIMEOUT);
    CHECK(file_exists(PATH) && count_entries(".") == 1);
    make_old(PATH, 6);
    CHECK_STATUS(msalex_lock_acquire(waiter, 100, 100, &error), MSALEX_OK);
    end();
}

/* A peer that locks the file as soon as it has its name, while our process does the next thing. */
static int peer_fd;
static void peer_locks_at_once(const char *name) {
    if (strcmp(name, "fstat") == 0 && peer_fd < 0 && file_exists(PATH)) {
        peer_fd = open(PATH, O_RDWR | O_CLOEXEC);
        CHECK(flock(peer_fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK);
    }
}

static void created_file_is_locked_at_once(void) {
    start(wait_script);
    fake_kernel.rename_code = fake_kernel.link_code = ENOTSUP;
    fake_kernel.before = peer_locks_at_once;
    peer_fd = -1;
    CHECK_STATUS(msalex_lock_acquire(waiter, 100, 100, &error), MSALEX_OK);
    CHECK(peer_fd >= 0);
    (void)close(peer_fd);
    end();
}

static void failures_leave_nothing(void) {
    static const struct {
        const char *name;
        int code, status, after, rename_code, link_code;
    } failing[] = {
        {"pwrite", ENOSPC, MSALEX_OS_ERROR, 0, 0, 0},
        {"fstat", EIO, MSALEX_OS_ERROR, 0, 0, 0},
        {"fstat", EIO, MSALEX_OS_ERROR, 1, 0, 0},
        {"flock", EIO, MSALEX_OS_ERROR, 0, 0, 0},
        {"opendir", EMFILE, MSALEX_OS_ERROR, 0, 0, 0},
        {"openat", EMFILE, MSALEX_OS_ERROR, 0, 0, 0},
        {"openat", EROFS, MSALEX_DENIED, 1, 0, 0},
        {"openat", EMFILE, MSALEX_OS_ERROR, 2, ENOTSUP, ENOTSUP},
        {"linkat", EACCES, MSALEX_DENIED, 0, ENOTSUP, 0},
        {"linkat", EIO, MSALEX_OS_ERROR, 0, EACCES, 0},
        {"calloc", ENOMEM, MSALEX_OS_ERROR, 0, 0, 0},
    };
    for (size_t i = 0; i < sizeof failing / sizeof failing[0]; i++) {
        start(wait_script);
        fake_kernel.failing = failing[i].name;
        fake_kernel.code = failing[i].code;
        fake_kernel.after = failing[i].after;
        fake_kernel.rename_code = failing[i].rename_code;
        fake_kernel.link_code = failing[i].link_code;
        CHECK_STATUS(msalex_lock_acquire(waiter, 100, 100, &error), failing[i].status);
        CHECK(error.code == failing[i].code && waits == 0);
        CHECK(count_entries(".") == 0);
        CHECK_STATUS(msalex_lock_acquire(waiter, 100, 100, &error), MSALEX_OK);
        end();
    }
    fake_kernel.failing = "calloc";
    fake_kernel.code = ENOMEM;
    CHECK_STATUS(msalex_lock_new(PATH, "waiter", &waiter, &error), MSALEX_OS_ERROR);
    CHECK(waiter == NULL);
    msalex_lock_free(NULL);
}

static void another_user_s_file(void) {
    start(wait_script);
    write_peer(getpid());
    fake_kernel.failing = "openat";
    fake_kernel.code = EACCES;
    fake_kernel.always = true;
    CHECK_STATUS(msalex_lock_acquire(waiter, 100, 100, &error), MSALEX_TIMEOUT);
    CHECK(waits == 1 && longest == 100); /* its directory is watched */
    CHECK(unlink(PATH) == 0);
    CHECK_STATUS(msalex_lock_acquire(waiter, 100, 100, &error), MSALEX_DENIED);
    end();
}

static void unstable_inodes(void) {
    start(wait_script);
    fake_kernel.unstable = true;
    CHECK_STATUS(msalex_lock_acquire(holder, 0, 0, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_check(holder, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_acquire(waiter, 100, 100, &error), MSALEX_TIMEOUT);
    somebody_unlinks();
    write_peer(getpid());
    CHECK_STATUS(msalex_lock_check(holder, &error), MSALEX_NOT_FOUND);
    CHECK_STATUS(msalex_lock_release(holder, &error), MSALEX_NOT_FOUND);
    CHECK(file_exists(PATH));
    fake_kernel.failing = "pread";
    fake_kernel.code = EIO;
    CHECK_STATUS(msalex_lock_acquire(holder, 0, 0, &error), MSALEX_OS_ERROR);
    end();
}

static void paths_that_cannot_be(void) {
    char name[NAME_MAX + 1] = "", path[PATH_MAX + 1] = "";
    msalex_lock *lock;

    start(wait_script);
    CHECK(symlink("elsewhere", PATH) == 0);
    CHECK_STATUS(msalex_lock_acquire(waiter, 100, 100, &error), MSALEX_INVALID);
    CHECK(unlink(PATH) == 0 && mkfifo(PATH, 0600) == 0);
    CHECK_STATUS(msalex_lock_acquire(waiter, 100, 100, &error), MSALEX_INVALID);
    end();

    memset(path, '/', PATH_MAX);
    CHECK_STATUS(msalex_lock_new(path, "waiter", &lock, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_acquire(lock, 0, 0, &error), MSALEX_INVALID);
    CHECK(error.code == ENAMETOOLONG);
    msalex_lock_free(lock);

    /* The name is short enough itself, but the name of its guard would be too long. */
    memset(name, 'x', NAME_MAX);
    CHECK_STATUS(msalex_lock_new(name, "waiter", &lock, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_acquire(lock, 0, 0, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_release(lock, &error), MSALEX_OK);
    write_peer(dead_pid());
    CHECK(rename(PATH, name) == 0);
    fake_kernel = (struct fake_kernel){
        .failing = "flock", .code = ENOTSUP, .always = true, .wait = wait_script};
    CHECK_STATUS(msalex_lock_acquire(lock, 0, 0, &error), MSALEX_TIMEOUT);
    fake_kernel = (struct fake_kernel){0};
    msalex_lock_free(lock);
}

/* The process that made these was killed before it could rename them. */
static void leftovers(void) {
    static const char *const old[] = {".msalex-0123456789abcdef.tmp",
                                      ".msalex-0123456789abcdee.tmp"};
    static const char young[] = ".msalex-0123456789abcded.tmp";
    msalex_lock *lock;

    start(wait_script);
    write_text(old[0], "");
    make_old(old[0], 61);
    write_text(young, "");
    CHECK_STATUS(msalex_lock_new("place that is new.lockfile", "test", &lock, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_acquire(lock, 0, 0, &error), MSALEX_OK);
    CHECK(!file_exists(old[0]) && file_exists(young));
    CHECK_STATUS(msalex_lock_release(lock, &error), MSALEX_OK);
    write_text(old[1], "");
    make_old(old[1], 61);
    CHECK_STATUS(msalex_lock_acquire(lock, 0, 0, &error), MSALEX_OK);
    CHECK(file_exists(old[1])); /* it looks only once */
    msalex_lock_free(lock);
    end();
}

/* The directory is exchanged for another one with that name. */
static void exchange_directory(void) {
    CHECK(rename("place", "elsewhere") == 0 && mkdir("place", 0700) == 0);
}

static void exchange_directory_then_release(void) {
    if (waits == 1)
        exchange_directory();
    else if (waits == 2)
        holder_releases();
}

static void exchange_directory_then_die(void) {
    if (waits == 1)
        exchange_directory();
    else if (waits == 2)
        holder_dies();
}

static void start_in_place(void) {
    start(wait_script);
    msalex_lock_free(holder);
    msalex_lock_free(waiter);
    CHECK(mkdir("place", 0700) == 0);
    CHECK_STATUS(msalex_lock_new("place/lockfile", "holder", &holder, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_new("place/lockfile", "waiter", &waiter, &error), MSALEX_OK);
}

static void directory_that_moves(void) {
    start_in_place();
    CHECK_STATUS(msalex_lock_acquire(holder, 0, 0, &error), MSALEX_OK);
    event = exchange_directory_then_release;
    CHECK_STATUS(msalex_lock_acquire(waiter, 5000, 5000, &error), MSALEX_OK); /* in the new one */
    CHECK(waits == 2 && file_exists("place/lockfile") && !file_exists("elsewhere/lockfile"));
    CHECK_STATUS(msalex_lock_check(waiter, &error), MSALEX_OK);
    CHECK(rename("place", "away") == 0);
    CHECK_STATUS(msalex_lock_check(waiter, &error), MSALEX_NOT_FOUND);
    CHECK_STATUS(msalex_lock_acquire(holder, 0, 0, &error), MSALEX_NOT_FOUND); /* no directory */
    CHECK_STATUS(msalex_lock_holder("place/lockfile", &(msalex_buffer){0}, &error),
                 MSALEX_NOT_FOUND);
    CHECK_STATUS(msalex_lock_release(waiter, &error), MSALEX_OK);
    CHECK(!file_exists("away/lockfile"));
    end();
}

/* The waiter is granted the lock of the directory in which it has waited. */
static void grant_in_a_directory_that_moved(void) {
    start_in_place();
    make_held_by_other("place/lockfile");
    event = exchange_directory_then_die;
    CHECK_STATUS(msalex_lock_acquire(waiter, 5000, 5000, &error), MSALEX_OK);
    CHECK(waits == 2 && file_exists("place/lockfile") && !file_exists("elsewhere/lockfile"));
    CHECK_STATUS(msalex_lock_check(waiter, &error), MSALEX_OK);
    end();
}

/* The holder's directory is exchanged: a newcomer in the other one, and the holder does no harm. */
static void holder_in_a_directory_that_moved(void) {
    start_in_place();
    CHECK_STATUS(msalex_lock_acquire(holder, 0, 0, &error), MSALEX_OK);
    exchange_directory();
    CHECK_STATUS(msalex_lock_acquire(waiter, 0, 0, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_check(holder, &error), MSALEX_NOT_FOUND);
    CHECK_STATUS(msalex_lock_release(holder, &error), MSALEX_OK);
    CHECK(file_exists("place/lockfile") && !file_exists("elsewhere/lockfile"));
    CHECK_STATUS(msalex_lock_check(waiter, &error), MSALEX_OK);
    end();
}

/* Then the directory's owner and group can remove it when its maker has died. */
static void owner_of_the_directory(void) {
    struct stat made;

    if (geteuid() != 0) {
        skip("it takes root to give files away");
        return;
    }
    start(wait_script);
    CHECK(chown(".", 12001, 12002) == 0 && chmod(".", 0775) == 0);
    CHECK_STATUS(msalex_lock_acquire(waiter, 0, 0, &error), MSALEX_OK);
    CHECK(stat(PATH, &made) == 0 && made.st_uid == 12001 && made.st_gid == 12002);
    CHECK((made.st_mode & 07777) == 0660);
    CHECK_STATUS(msalex_lock_release(waiter, &error), MSALEX_OK);
    fake_kernel.failing = "fchown"; /* the refusal does not fail the lock */
    fake_kernel.code = EPERM;
    CHECK_STATUS(msalex_lock_acquire(waiter, 0, 0, &error), MSALEX_OK);
    CHECK(stat(PATH, &made) == 0 && made.st_uid == 0 && (made.st_mode & 07777) == 0600);
    CHECK_STATUS(msalex_lock_release(waiter, &error), MSALEX_OK);
    CHECK(chmod(".", 01777) == 0); /* sticky: the file stays root's own */
    CHECK_STATUS(msalex_lock_acquire(waiter, 0, 0, &error), MSALEX_OK);
    CHECK(stat(PATH, &made) == 0 && made.st_uid == 0 && (made.st_mode & 07777) == 0600);
    end();
}

static bool has_list(const char *expected) {
    const char *list = fake_list_of(PATH);
    return list != NULL && strcmp(list, expected) == 0;
}

/* A reader could take the flock of the lock file, and keep it. */
static void inherited_lists(void) {
    static const char READERS[] = "group:everyone allow read";
    static const mode_t modes[] = {0700, 01777, 0770};

    for (size_t i = 0; i < 3; i++) {
        const bool is_shared = modes[i] == 0770;
        start(wait_script);
        fake_kernel.inherited = READERS;
        CHECK(chmod(".", modes[i]) == 0);
        CHECK_STATUS(msalex_lock_acquire(waiter, 0, 0, &error), MSALEX_OK);
        CHECK(has_list(is_shared ? READERS : ""));
        CHECK_STATUS(msalex_lock_release(waiter, &error), MSALEX_OK);
        fake_kernel.failing = "acl_set_fd_np"; /* the refusal does not fail the lock */
        fake_kernel.code = EPERM;
        CHECK_STATUS(msalex_lock_acquire(waiter, 0, 0, &error), MSALEX_OK);
        end();
    }
}

static const struct property properties[] = {
    {"Without flock the existence of the file is the lock", no_flock},
    {"Without an exclusive rename the file is linked, or made in place", no_exclusive_rename},
    {"A file made in place that a peer catches is the peer's", created_file_is_caught},
    {"A file made in place is locked before a peer can lock it", created_file_is_locked_at_once},
    {"A call that fails is an error that leaves nothing behind", failures_leave_nothing},
    {"A file that we may not open is waited for", another_user_s_file},
    {"Where inode numbers change, the nonce tells whose file it is", unstable_inodes},
    {"A path that can be no lock file fails at once", paths_that_cannot_be},
    {"The first lock in a place removes what killed processes left there", leftovers},
    {"A waiter follows its path when the directory that it waited in is exchanged",
     directory_that_moves},
    {"A grant in a directory that was exchanged is given back", grant_in_a_directory_that_moved},
    {"A directory that is exchanged takes its lock along", holder_in_a_directory_that_moved},
    {"Root's lock file belongs to the owner of its directory", owner_of_the_directory},
    {"A list that the directory hands down lets nobody lock, unless a group shares it",
     inherited_lists},
};

int main(void) {
    run_properties(properties, COUNT(properties));
    return end_of_properties();
}
