/*
 * What tests say about paths in the model of files, and how paths lead elsewhere: fake_rules.c, for
 * fake_files.c.
 */
#ifndef FAKE_RULES_H
#define FAKE_RULES_H

#define WIN32_LEAN_AND_MEAN
#include <windows.h>

#include <stdbool.h>

enum { FAKE_PATH_ROOM = 1200 };

enum fake_kind { FAKE_RULE_LINK, FAKE_RULE_SECURITY, FAKE_RULE_FORBIDDEN, FAKE_RULE_EXCHANGE };

struct fake_rule {
    enum fake_kind kind;
    wchar_t path[FAKE_PATH_ROOM], text[FAKE_PATH_ROOM], owner[100];
    bool relative;
    DWORD rights;
};

#define STATUS(number) ((LONG)(number))

/* The path without a prefix. */
const wchar_t *fake_bare(const wchar_t *path);

/* The last such rule for the path, or NULL. */
struct fake_rule *fake_rule_for(enum fake_kind kind, const wchar_t *path);

/* Does the list of the file deny one of these rights? */
bool fake_is_forbidden(const wchar_t *path, DWORD access);

/* Follows the links in a path behind its first `start` characters.  A status of NT.  `link`: the
 * path ends with this one, and it was asked for `itself`. */
LONG fake_lead(wchar_t *path, size_t start, bool itself, bool no_links,
               const struct fake_rule **link);

/* An attacker's turn, before a file is opened or made. */
void fake_exchange_now(const wchar_t *path, bool making);

void fake_forget_rules(void);

#endif
