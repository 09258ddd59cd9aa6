/*
 * What a file of a Mac carries beside its content, over the fakes: access lists and extended
 * attributes.  Run by tests/macos/test_over_fakes.py.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "check.h"
#include "fake_kernel.h"

static const char PATH[] = "cache.bin";
static const char READERS[] = "group:everyone allow read";
static msalex_stamp stamp;

static void start(struct fake_kernel script) {
    fake_kernel = script;
}

static void end(void) {
    fake_kernel = (struct fake_kernel){0};
}

static int save(const char *text) {
    return msalex_file_replace(PATH, (const unsigned char *)text, strlen(text), NULL, &stamp,
                               &error);
}

static bool is_list(const char *path, const char *expected) {
    const char *list = fake_list_of(path);
    return list == NULL || expected == NULL ? list == expected : strcmp(list, expected) == 0;
}

/* Nobody has a right by a list. */
static bool is_private(const char *path) {
    return is_list(path, NULL) || is_list(path, "");
}

/* ---- access lists ---- */

static void inherited_lists_go(void) {
    start((struct fake_kernel){.inherited = READERS});
    CHECK_STATUS(save("one"), MSALEX_OK);
    CHECK(is_private(PATH) && mode_of(PATH) == 0600);
    CHECK_STATUS(save("two"), MSALEX_OK);
    CHECK(is_private(PATH));
    CHECK_STATUS(msalex_file_create("copy", (const unsigned char *)"x", 1, &error), MSALEX_OK);
    CHECK(is_private("copy"));
    CHECK_STATUS(msalex_file_touch("signal", &error), MSALEX_OK);
    CHECK(is_list("signal", ""));
    CHECK_STATUS(msalex_directory_make("directory", &error), MSALEX_OK);
    CHECK(is_list("directory", "") && mode_of("directory") == 0700);
    fake_kernel.failing = "acl_set_fd_np";
    fake_kernel.code = EIO;
    CHECK_STATUS(msalex_directory_make("other directory", &error), MSALEX_OS_ERROR);
    CHECK(error.code == EIO && !file_exists("other directory"));
    end();
    CHECK_STATUS(msalex_file_touch("other", &error), MSALEX_OK);
    CHECK(is_list("other", NULL)); /* where nothing is handed down, nothing is set */
}

/* Another user waits for a temporary file that its list lets everybody read, and keeps it open. */
static int spies[64];
static int spy_count;

static void open_what_everybody_may_read(const char *name) {
    const struct dirent *entry;
    DIR *entries;

    if (strncmp(name, "acl_", 4) != 0)
        return;
    CHECK((entries = opendir(".")) != NULL);
    while ((entry = readdir(entries)) != NULL) {
        if (strncmp(entry->d_name, ".msalex-", 8) == 0 && is_list(entry->d_name, READERS) &&
            spy_count < 64)
            spies[spy_count++] = open(entry->d_name, O_RDONLY | O_CLOEXEC);
    }
    (void)closedir(entries);
}

static void nobody_reads_meanwhile(void) {
    char byte;

    for (int is_new = 0; is_new < 2; is_new++) {
        spy_count = 0;
        start((struct fake_kernel){.inherited = READERS, .before = open_what_everybody_may_read});
        CHECK_STATUS(save(is_new == 0 ? "one" : "two"), MSALEX_OK);
        end();
        CHECK(spy_count > 0);
        for (int i = 0; i < spy_count; i++) {
            CHECK(pread(spies[i], &byte, 1, 0) <= 0); /* nothing, or a directory */
            (void)close(spies[i]);
        }
        CHECK(is_private(PATH) && mode_of(PATH) == 0600 && count_entries(".") == 1);
    }
}

/* The process was killed while the file was in a directory of its own. */
static void leftovers_go(void) {
    static const char WAY[] = ".msalex-0123456789abcdef.dir";
    static const char FILE_IN_IT[] = ".msalex-0123456789abcdef.dir/.msalex-0123456789abcdee.tmp";
    static const char OTHER_FILE[] = ".msalex-0123456789abcdef.dir/other";

    CHECK(mkdir(WAY, 0700) == 0);
    write_text(FILE_IN_IT, "");
    write_text(OTHER_FILE, "");
    make_old(FILE_IN_IT, 61);
    CHECK_STATUS(msalex_file_sweep(PATH, &error), MSALEX_OK);
    CHECK(file_exists(FILE_IN_IT)); /* the directory is young */
    make_old(WAY, 61);
    CHECK_STATUS(msalex_file_sweep(PATH, &error), MSALEX_OK);
    CHECK(!file_exists(FILE_IN_IT) && file_exists(OTHER_FILE)); /* which is not ours */
    CHECK(unlink(OTHER_FILE) == 0);
    make_old(WAY, 61);
    CHECK_STATUS(msalex_file_sweep(PATH, &error), MSALEX_OK);
    CHECK(!file_exists(WAY));
}

static void own_lists_stay(void) {
    write_text(PATH, "old");
    CHECK(chmod(PATH, 0640) == 0);
    fake_give_list(PATH, "user:colleague allow read");
    start((struct fake_kernel){.inherited = READERS});
    CHECK_STATUS(save("new"), MSALEX_OK);
    CHECK(is_list(PATH, "user:colleague allow read") && mode_of(PATH) == 0640);
    fake_give_list(PATH, NULL);
    CHECK_STATUS(save("newer"), MSALEX_OK);
    CHECK(is_private(PATH) && mode_of(PATH) == 0640);
    end();
}

/* Reads the list of the old file, or gives it to the new one: calls before that were about the new
 * file and its directory. */
static void lists_that_cannot_be_copied(void) {
    static const struct {
        const char *name;
        int after;
    } failing[] = {{"acl_get_fd_np", 3}, {"acl_set_fd_np", 1}};

    for (size_t i = 0; i < 2; i++) {
        write_text(PATH, "old");
        CHECK(chmod(PATH, 0640) == 0);
        fake_give_list(PATH, "user:colleague deny read");
        start((struct fake_kernel){.inherited = READERS,
                                   .failing = failing[i].name,
                                   .code = EACCES,
                                   .after = failing[i].after});
        CHECK_STATUS(save("new"), MSALEX_OK);
        CHECK(fake_kernel.failing == NULL);
        CHECK(is_private(PATH) && mode_of(PATH) == 0600); /* the group gets nothing for it */
        end();
        CHECK(unlink(PATH) == 0);
    }
}

static void lists_that_cannot_be_removed(void) {
    static const char *const failing[] = {"acl_init", "acl_set_fd_np"};

    for (size_t i = 0; i < 2; i++) {
        start((struct fake_kernel){.inherited = READERS, .failing = failing[i], .code = EIO});
        CHECK_STATUS(save("secret"), MSALEX_OS_ERROR);
        CHECK(error.code == EIO && count_entries(".") == 0);
        end();
    }
    /* One that may not even be read is replaced unread. */
    start((struct fake_kernel){.inherited = READERS, .failing = "acl_get_fd_np", .code = EACCES});
    CHECK_STATUS(save("secret"), MSALEX_OK);
    CHECK(is_private(PATH));
    /* A file system without lists, where reading one fails in a way of its own. */
    start((struct fake_kernel){.without_lists = true, .failing = "acl_get_fd_np", .code = EIO});
    CHECK_STATUS(save("secret"), MSALEX_OK);
    end();
}

/* ---- attributes ---- */

/* What `tmutil addexclusion` sets, a tag, a note of a program's own, a download, a text, and what
 * only the system sets. */
static const struct attribute {
    const char *name;
    bool stays;
} ATTRIBUTES[] = {
    {"com.apple.metadata:com_apple_backup_excludeItem", true},
    {"com.apple.metadata:_kMDItemUserTags", true},
    {"org.example.note", true},
    {"org.example.checksum#C", false},
    {"com.apple.quarantine", false},
    {"com.apple.provenance", false},
};
enum { ATTRIBUTE_COUNT = sizeof ATTRIBUTES / sizeof ATTRIBUTES[0] };

/* Directly, by Linux's call: the fake would refuse one of them. */
static bool is_attribute(const char *path, const char *name, const char *expected) {
    char text[300], value[64];
    ssize_t size;

    (void)snprintf(text, sizeof text, "user.%s", name);
    size = syscall(SYS_getxattr, path, text, value, sizeof value);
    return size == (ssize_t)strlen(expected) && memcmp(value, expected, strlen(expected)) == 0;
}

static bool give_attribute(const char *path, const char *name, const char *value) {
    char text[300];
    (void)snprintf(text, sizeof text, "user.%s", name);
    return syscall(SYS_setxattr, path, text, value, strlen(value), 0) == 0;
}

static bool give_attributes(void) {
    bool given = true;
    write_text(PATH, "old");
    for (size_t i = 0; i < ATTRIBUTE_COUNT; i++)
        given = given && give_attribute(PATH, ATTRIBUTES[i].name, ATTRIBUTES[i].name);
    return given;
}

/* A backup may begin at any moment, so the mark comes before the first byte. */
static void check_temporary_file(const char *name) {
    DIR *entries;
    const struct dirent *entry;

    if (strcmp(name, "pwrite") != 0)
        return;
    CHECK((entries = opendir(".")) != NULL);
    while ((entry = readdir(entries)) != NULL) {
        if (strncmp(entry->d_name, ".msalex-", 8) == 0)
            CHECK(is_attribute(entry->d_name, ATTRIBUTES[0].name, ATTRIBUTES[0].name));
    }
    (void)closedir(entries);
}

static void attributes_stay(void) {
    if (!give_attributes()) {
        skip("this file system has no user attributes");
        return;
    }
    start((struct fake_kernel){.before = check_temporary_file});
    CHECK_STATUS(save("new"), MSALEX_OK);
    CHECK_STATUS(save("newer"), MSALEX_OK);
    for (size_t i = 0; i < ATTRIBUTE_COUNT; i++)
        CHECK(is_attribute(PATH, ATTRIBUTES[i].name, ATTRIBUTES[i].name) == ATTRIBUTES[i].stays);
    CHECK(has_text(PATH, "newer") && mode_of(PATH) == 0600);
    end();
}

static void attributes_that_cannot_be_copied(void) {
    static const char *const failing[] = {"flistxattr", "fgetxattr", "fsetxattr", "malloc"};

    for (size_t i = 0; i < sizeof failing / sizeof failing[0]; i++) {
        (void)give_attributes();
        start((struct fake_kernel){.failing = failing[i], .code = EIO, .always = i < 3});
        CHECK_STATUS(save("new"), MSALEX_OK);
        CHECK(has_text(PATH, "new") && count_entries(".") == 1);
        CHECK(unlink(PATH) == 0);
    }
    write_text(PATH, "old");
    start((struct fake_kernel){.without_attributes = true});
    CHECK_STATUS(save("new"), MSALEX_OK);
    end();
}

static const struct property properties[] = {
    {"A list that the directory hands down is removed", inherited_lists_go},
    {"Nobody reads a save by a descriptor from before the list was removed",
     nobody_reads_meanwhile},
    {"What a killed process left in a directory of its own is removed", leftovers_go},
    {"The list of the old file stays", own_lists_stay},
    {"A list that cannot be copied costs the group its rights", lists_that_cannot_be_copied},
    {"A list that cannot be removed stops the save", lists_that_cannot_be_removed},
    {"Attributes of the user stay, and are there before the content", attributes_stay},
    {"Attributes that cannot be copied never fail a save", attributes_that_cannot_be_copied},
};

int main(void) {
    run_properties(properties, COUNT(properties));
    return end_of_properties();
}
