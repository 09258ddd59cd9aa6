/* The line in a lock file: see lock_record.h. */
#include "lock_record.h"

#include <stdlib.h>
#include <string.h>

enum {
    TEXT_SIZE = 161, /* "<pid> <program>", padded */
    TIME_SIZE = 13,
    SEEN_AT = TEXT_SIZE + 1,
    WHEN_AT = SEEN_AT + TIME_SIZE + 1,
    VIEW_AT = WHEN_AT + TIME_SIZE + 1,
    VIEW_SIZE = 16,
    TAG_AT = VIEW_AT + VIEW_SIZE, /* where the text of the first release ended */
    STATE_SIZE = 8,
    PID_AT = TAG_AT + 9, /* behind the tag; then there is one space between fields */
    PID_SIZE = 10,
    STATE_AT = PID_AT + PID_SIZE + 1,
    TURN_AT = STATE_AT + STATE_SIZE + 1,
    TURN_SIZE = 3,
    NONCE_AT = TURN_AT + TURN_SIZE + 1,
    NONCE_SIZE = 16 /* and a newline */
};

static const char TAG[] = " msalex1 ";
static const char *const STATES[] = {"HELD    ", "EXISTS  ", "GAP     "};

/* ASCII only.  The functions of <ctype.h> ask the locale, and by a code page of Windows bytes of
 * UTF-8 are control characters (0x81 in 1252) or spaces (0xa0). */
static bool is_control(char byte) {
    return (unsigned char)byte < ' ' || byte == 0x7f;
}

static bool is_space(char byte) {
    return byte == ' ' || (byte >= '\t' && byte <= '\r');
}

/* Writes a number to the right end of a field; returns its first digit.  Written by hand, because
 * printf and scanf take longer than all the rest of a hand-over. */
static char *put_number(char *field, size_t size, unsigned base, uint64_t number) {
    char *digit = field + size;
    do
        *--digit = "0123456789abcdef"[number % base];
    while ((number /= base) != 0 && digit > field);
    return digit;
}

/* Reads a field that must hold a number and nothing else; if it does not, the number is 0. */
static bool get_number(const char *field, size_t size, int base, uint64_t *number) {
    char text[NONCE_SIZE + 1] = {0}, *end;

    memcpy(text, field, size);
    *number = strtoull(text, &end, base);
    if (end == text + size && strchr(text, '-') == NULL)
        return true;
    *number = 0;
    return false;
}

/* Does the record have the fields that the first release did not write?  If not, they are 0. */
static bool get_newer_fields(const char *bytes, struct msalex__record *record) {
    uint64_t seen, when, view;

    record->seen = record->when = 0;
    record->view = 0;
    if (bytes[TEXT_SIZE] != ' ' || bytes[WHEN_AT - 1] != ' ' || bytes[VIEW_AT - 1] != ' ' ||
        !get_number(bytes + SEEN_AT, TIME_SIZE, 10, &seen) ||
        !get_number(bytes + WHEN_AT, TIME_SIZE, 10, &when) ||
        !get_number(bytes + VIEW_AT, VIEW_SIZE, 16, &view))
        return false;
    record->seen = (int64_t)seen;
    record->when = (int64_t)when;
    record->view = view;
    return true;
}

void msalex__record_format(const struct msalex__record *record, const char *program,
                           char bytes[MSALEX__RECORD_SIZE]) {
    const unsigned turn =
        record->turn < MSALEX__RECORD_TURNS ? record->turn : (unsigned)MSALEX__RECORD_TURNS;
    const char *pid;
    char *at = bytes;

    memset(bytes, ' ', MSALEX__RECORD_SIZE);
    memset(bytes + SEEN_AT, '0', TIME_SIZE);
    memset(bytes + WHEN_AT, '0', TIME_SIZE);
    memset(bytes + VIEW_AT, '0', VIEW_SIZE);
    memset(bytes + TURN_AT, '0', TURN_SIZE);
    memset(bytes + NONCE_AT, '0', NONCE_SIZE);
    pid = put_number(bytes + PID_AT, PID_SIZE, 10, (uint64_t)record->pid);
    for (; pid < bytes + PID_AT + PID_SIZE; pid++)
        *at++ = *pid;
    for (at++; *program != '\0' && at < bytes + TEXT_SIZE; program++) /* it must stay one line */
        *at++ = is_control(*program) ? '?' : *program;
    (void)put_number(bytes + SEEN_AT, TIME_SIZE, 10, (uint64_t)record->seen);
    (void)put_number(bytes + WHEN_AT, TIME_SIZE, 10, (uint64_t)record->when);
    (void)put_number(bytes + VIEW_AT, VIEW_SIZE, 16, record->view);
    memcpy(bytes + TAG_AT, TAG, sizeof TAG - 1);
    memcpy(bytes + STATE_AT, STATES[record->state], STATE_SIZE);
    (void)put_number(bytes + TURN_AT, TURN_SIZE, 10, turn);
    (void)put_number(bytes + NONCE_AT, NONCE_SIZE, 16, record->nonce);
    bytes[MSALEX__RECORD_SIZE - 1] = '\n';
}

bool msalex__record_parse(const char *bytes, size_t size, struct msalex__record *record) {
    uint64_t pid, turn;

    if (size < MSALEX__RECORD_SIZE || memcmp(bytes + TAG_AT, TAG, sizeof TAG - 1) != 0 ||
        !get_number(bytes + PID_AT, PID_SIZE, 10, &pid) ||
        !get_number(bytes + TURN_AT, TURN_SIZE, 10, &turn) ||
        !get_number(bytes + NONCE_AT, NONCE_SIZE, 16, &record->nonce))
        return false;
    record->pid = (int64_t)pid;
    record->turn = (unsigned)turn;
    record->state = MSALEX__HELD;
    for (int state = MSALEX__EXISTS; state <= MSALEX__GAP; state++) {
        if (memcmp(bytes + STATE_AT, STATES[state], STATE_SIZE) == 0)
            record->state = (enum msalex__record_state)state;
    }
    (void)get_newer_fields(bytes, record);
    /* .NET and Go write over the start of what they find without truncating it.  Nobody has pid 0,
     * which is also what a start without a pid is read as. */
    return record->pid != 0 && msalex__record_pid(bytes, size) == record->pid;
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
    if (text[0] < '0' || text[0] > '9')
        return 0;
    pid = strtoll(text, &end, 10);
    if (*end != '\0' && strchr(" }\r\n", *end) == NULL)
        return 0;
    return pid <= INT32_MAX ? pid : 0; /* no system has larger ones */
}

/* The length of the printable character at the start of `bytes`, or 0.  Printable is UTF-8 (RFC
 * 3629) without its control characters, and without those that break a line or turn its direction
 * (U+2028 to U+202E, U+2066 to U+2069). */
static size_t printable(const unsigned char *bytes, size_t size) {
    const unsigned char lead = bytes[0];
    const size_t length = lead < 0x80 ? 1 : lead < 0xc2 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    unsigned code = lead & (0x7fU >> length);

    if (length <= 1)
        return lead >= 0x20 && lead < 0x7f ? 1 : 0;
    if (lead > 0xf4 || size < length)
        return 0;
    for (size_t i = 1; i < length; i++) {
        if ((bytes[i] & 0xc0) != 0x80)
            return 0;
        code = code << 6 | (bytes[i] & 0x3fU);
    }
    if (code < 0xa0 || (length == 3 && code < 0x800) || (length == 4 && code < 0x10000) ||
        code > 0x10ffff || (code >= 0xd800 && code < 0xe000) ||
        (code >= 0x2028 && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069))
        return 0;
    return length;
}

size_t msalex__record_text(char *bytes, size_t size) {
    struct msalex__record record;
    const char *newline;

    if (msalex__record_parse(bytes, size, &record))
        size = get_newer_fields(bytes, &record) ? TEXT_SIZE : TAG_AT;
    if ((newline = memchr(bytes, '\n', size)) != NULL)
        size = (size_t)(newline - bytes);
    while (size > 0 && is_space(bytes[size - 1]))
        size--;
    for (size_t at = 0, length; at < size; at += length) {
        if ((length = printable((const unsigned char *)bytes + at, size - at)) == 0) {
            bytes[at] = '?';
            length = 1;
        }
    }
    return size;
}
