/* The line in a lock file: see lock_record.h. */
#include "lock_record.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TEXT_SIZE = 78 }; /* "<pid> <program>", padded */

static const char TAG[] = " msalex1 ";
static const char *const STATES[] = {"HELD    ", "HANDOVER", "EXISTS  "};

void msalex__record_format(const struct msalex__record *record, const char *program,
                           char bytes[MSALEX__RECORD_SIZE]) {
    char text[TEXT_SIZE + 1], line[MSALEX__RECORD_SIZE + 1];
    unsigned turn =
        record->turn < MSALEX__RECORD_TURNS ? record->turn : (unsigned)MSALEX__RECORD_TURNS;

    (void)snprintf(text, sizeof text, "%lld %s", (long long)record->pid, program);
    for (char *c = text; *c != '\0'; c++) {
        if (iscntrl((unsigned char)*c))
            *c = '?'; /* one line it must stay */
    }
    (void)snprintf(line, sizeof line, "%-*s%s%10lld %s %03u %016llx\n", (int)TEXT_SIZE, text, TAG,
                   (long long)record->pid, STATES[record->state], turn,
                   (unsigned long long)record->nonce);
    memcpy(bytes, line, MSALEX__RECORD_SIZE);
}

bool msalex__record_parse(const char *bytes, size_t size, struct msalex__record *record) {
    char line[MSALEX__RECORD_SIZE + 1], state[9];
    long long pid;
    unsigned long long nonce;

    if (size < MSALEX__RECORD_SIZE)
        return false;
    memcpy(line, bytes, MSALEX__RECORD_SIZE);
    line[MSALEX__RECORD_SIZE] = '\0';
    if (memcmp(line + TEXT_SIZE, TAG, sizeof TAG - 1) != 0 ||
        sscanf(line + TEXT_SIZE + sizeof TAG - 1, "%lld %8s %3u %16llx", &pid, state,
               &record->turn, &nonce) != 4)
        return false;
    record->pid = pid;
    record->nonce = nonce;
    record->state = strcmp(state, "HANDOVER") == 0 ? MSALEX__HANDOVER
                    : strcmp(state, "EXISTS") == 0 ? MSALEX__EXISTS
                                                   : MSALEX__HELD;
    /* .NET and Go write over the start of what they find without truncating it. */
    return msalex__record_pid(line, MSALEX__RECORD_SIZE) == pid;
}

int64_t msalex__record_pid(const char *bytes, size_t size) {
    static const char BYTE_ORDER_MARK[] = "\xef\xbb\xbf";
    char text[32] = {0};
    char *end;
    long long pid;

    if (size >= 3 && memcmp(bytes, BYTE_ORDER_MARK, 3) == 0)
        bytes += 3, size -= 3;
    if (size >= 1 && bytes[0] == '{')
        bytes += 1, size -= 1;
    memcpy(text, bytes, size < sizeof text - 1 ? size : sizeof text - 1);
    if (!isdigit((unsigned char)text[0]))
        return 0;
    pid = strtoll(text, &end, 10);
    if (*end != '\0' && strchr(" }\r\n", *end) == NULL)
        return 0;
    return pid <= INT32_MAX ? pid : 0; /* no system has larger ones */
}

size_t msalex__record_text_size(const char *bytes, size_t size) {
    struct msalex__record record;
    if (msalex__record_parse(bytes, size, &record))
        size = TEXT_SIZE;
    while (size > 0 && isspace((unsigned char)bytes[size - 1]))
        size--;
    return size;
}
