/* The rules of the model of files: see fake_rules.h. */
#define FAKE_API_ITSELF
#include "fake_rules.h"

#include <stdio.h>
#include <string.h>

#include "fake_files.h"

enum { RULES_MAX = 20 };

static struct fake_rule rules[RULES_MAX];
static int rule_count;

void fake_forget_rules(void) {
    rule_count = 0;
}

const wchar_t *fake_bare(const wchar_t *path) {
    if (wcsncmp(path, L"\\\\.\\", 4) == 0 && path[5] == L':')
        return path + 4;
    return wcsncmp(path, L"\\\\?\\", 4) == 0 ? path + 4 : path;
}

static struct fake_rule *add(enum fake_kind kind, const wchar_t *path) {
    struct fake_rule *rule = &rules[rule_count++];
    memset(rule, 0, sizeof *rule);
    rule->kind = kind;
    wcscpy(rule->path, fake_bare(path));
    return rule;
}

void fake_make_link(const wchar_t *path, const wchar_t *target, bool relative,
                    const wchar_t *owner) {
    struct fake_rule *rule = add(FAKE_RULE_LINK, path);
    wcscpy(rule->text, fake_bare(target));
    wcscpy(rule->owner, owner);
    rule->relative = relative;
}

void fake_set_security(const wchar_t *path, const wchar_t *sddl) {
    wcscpy(add(FAKE_RULE_SECURITY, path)->text, sddl);
}

void fake_forbid(const wchar_t *path, DWORD rights) {
    add(FAKE_RULE_FORBIDDEN, path)->rights = rights;
}

void fake_exchange(const wchar_t *path, const wchar_t *with) {
    wcscpy(add(FAKE_RULE_EXCHANGE, path)->text, fake_bare(with));
}

static bool is_below(const wchar_t *path, const wchar_t *top) {
    const size_t length = wcslen(top);
    return _wcsnicmp(path, top, length) == 0 && (path[length] == L'\0' || path[length] == L'\\');
}

struct fake_rule *fake_rule_for(enum fake_kind kind, const wchar_t *path) {
    for (int i = rule_count - 1; i >= 0; i--) {
        if (rules[i].kind == kind && _wcsicmp(rules[i].path, path) == 0)
            return &rules[i];
    }
    return NULL;
}

/* MS-FSA, "Open of an Existing File": its list is asked for each right.  "Creation of a New File":
 * the handle of its creator gets all rights that the open asks for. */
bool fake_is_forbidden(const wchar_t *path, DWORD access) {
    if ((access & GENERIC_WRITE) != 0)
        access |= FILE_WRITE_DATA;
    if ((access & GENERIC_READ) != 0)
        access |= FILE_READ_DATA;
    for (int i = 0; i < rule_count; i++) {
        if (rules[i].kind == FAKE_RULE_FORBIDDEN && is_below(path, rules[i].path) &&
            (rules[i].rights & access) != 0)
            return true;
    }
    return false;
}

/* ---- paths ---- */

/* CreateFileW: "limited to MAX_PATH characters" without the prefix; CreateDirectoryW: 248, "because
 * the directory must have room for an 8.3 name".  Both answer ERROR_PATH_NOT_FOUND, as CPython
 * (bpo-18199) and git (core.longpaths) met it. */
bool fake_is_too_long(const wchar_t *path, bool directory) {
    if (wcsncmp(path, L"\\\\?\\", 4) == 0 || wcslen(path) < (directory ? 248 : MAX_PATH))
        return false;
    SetLastError(ERROR_PATH_NOT_FOUND);
    return true;
}

/* Follows links in the path.  MS-FSA, "Server Requests an Open of a File": a reparse point in the
 * middle, or at the end without FILE_OPEN_REPARSE_POINT, gives STATUS_REPARSE, and the I/O manager
 * looks up the new name; with OBJ_DONT_REPARSE it fails instead (documentation of
 * OBJECT_ATTRIBUTES). */
LONG fake_lead(wchar_t *path, size_t start, bool itself, bool no_links,
               const struct fake_rule **link) {
    wchar_t made[FAKE_PATH_ROOM * 2];

    *link = NULL;
    for (int i = 0; i < rule_count; i++) {
        const size_t length = wcslen(rules[i].path);
        if (rules[i].kind != FAKE_RULE_LINK || !is_below(path, rules[i].path) || length <= start)
            continue;
        if (path[length] == L'\0' && itself) {
            *link = &rules[i];
            return 0;
        }
        if (no_links)
            return STATUS(0xC000050B); /* STATUS_REPARSE_POINT_ENCOUNTERED */
        (void)swprintf(made, FAKE_PATH_ROOM * 2, L"%.*ls%ls%ls",
                       rules[i].relative ? (int)(wcsrchr(rules[i].path, L'\\') + 1 - rules[i].path)
                                         : 0,
                       rules[i].path, rules[i].text, path + length);
        wcscpy(path, made);
        start = 0;
        i = -1;
    }
    return 0;
}

/* An attacker is quick: when a file is made below the path, the link is there. */
void fake_exchange_now(const wchar_t *path, bool making) {
    for (int i = 0; making && i < rule_count; i++) {
        if (rules[i].kind == FAKE_RULE_EXCHANGE && is_below(path, rules[i].path)) {
            rules[i].kind = FAKE_RULE_LINK;
            wcscpy(rules[i].owner, L"S-1-5-21-1-2-3-666");
        }
    }
}
