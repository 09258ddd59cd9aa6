"""Ctrl-C at random moments while other threads save: no thread hangs, and no change is lost.

    MSALEX_CACHE_INTERRUPTS=4000 python3 dev.py test -s tests/test_cache_interrupts.py

runs the full number.  The signals are real.  tests/test_lock_interrupts.py interrupts one thread
alone, at each byte code.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

from tests.support import tally
from tests.support.capability import requires
from tests.support.processes import python

INTERRUPTS = int(os.environ.get("MSALEX_CACHE_INTERRUPTS", "300"))
#: Interrupts of one process, so that each process ends soon.
AT_A_TIME = 500

# A change is noted before its call, and again after the call has returned.  When Ctrl-C comes in
# between, only the first note exists, and the change may be there or not.  Each thread has keys of
# its own.
CODE = """
import base64, collections, gc, itertools, json, os, random, signal, sys, threading, time
from msal_extensions import CrossPlatLock, FilePersistence, PersistedTokenCache

directory, wanted, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
GENEROUS = 60
location = os.path.join(directory, "cache.bin")
cache = PersistedTokenCache(FilePersistence(location))
another = PersistedTokenCache(FilePersistence(location))
problems, found = [], collections.Counter()


class Ledger:
    '''What a thread stored, by its keys.'''

    def __init__(self, name):
        self.name, self.number = name, 0
        self.chance = random.Random(f"{seed} {name}")
        self.sure = {}    # (kind, user): the secret of the last call that returned; None: removed
        self.perhaps = {} # (kind, user): the secrets of the calls since

    def next(self):
        self.number += 1
        return f"{self.name}.{self.number}"

    def user(self):
        return f"{self.name}-{self.chance.randrange(8)}"

    def begin(self, place, secret):
        self.perhaps.setdefault(place, []).append(secret)

    def returned(self, place, secret):
        self.sure[place] = secret
        self.perhaps[place] = []

    def check(self, stored, when):
        for place in {*self.sure, *self.perhaps}:
            allowed = [self.sure.get(place), *self.perhaps.get(place, [])]
            if stored.get(place) not in allowed:
                problems.append(f"{when}: {place} is {stored.get(place)}, not {allowed}")


def entry(user):
    return {"credential_type": "RefreshToken", "home_account_id": user,
            "environment": "login.example.com", "client_id": "client"}

def modify(ledger, cache):
    user, secret = ledger.user(), ledger.next()
    place = "RefreshToken", user
    ledger.begin(place, secret)
    cache.modify("RefreshToken", entry(user), {"secret": secret})
    ledger.returned(place, secret)

def remove(ledger, cache):
    user = ledger.user()
    place = "RefreshToken", user
    ledger.begin(place, None)
    cache.remove_rt(entry(user))
    ledger.returned(place, None)

def add(ledger, cache):
    uid, secret = "added-" + ledger.user(), ledger.next()
    user = f"{uid}.tenant"
    info = json.dumps({"uid": uid, "utid": "tenant"}).encode()
    event = {"client_id": "client", "scope": ["scope"], "environment": "login.example.com",
             "token_endpoint": "https://login.example.com/tenant/oauth2/v2.0/token",
             "response": {"access_token": secret, "refresh_token": secret, "expires_in": 3600,
                          "client_info": base64.urlsafe_b64encode(info).decode()}}
    places = ("RefreshToken", user), ("AccessToken", user)
    for place in places:
        ledger.begin(place, secret)
    cache.add(event)
    for place in places:
        ledger.returned(place, secret)

def transact(ledger, cache):
    changes = [(("RefreshToken", ledger.user()), ledger.chance.choice((ledger.next(), None)))
               for _ in range(3)]
    for change in changes:
        ledger.begin(*change)
    with cache.transaction():
        for place, secret in changes:
            with cache.transaction():
                cache.modify("RefreshToken", entry(place[1]), secret and {"secret": secret})
    for change in dict(changes).items():  # the last of each place: an interrupt may come here, too
        ledger.returned(*change)

def fly(ledger, cache):
    user, secret = ledger.user(), ledger.next()
    place = "RefreshToken", user
    with cache.single_flight():
        ledger.begin(place, secret)
        cache.modify("RefreshToken", entry(user), {"secret": secret})
        ledger.returned(place, secret)

def search(ledger, cache):
    shown = {("RefreshToken", item["home_account_id"]): item["secret"]
             for item in cache.search("RefreshToken")}
    list(cache.search("AccessToken"))
    ours = {place: secret for place, secret in ledger.sure.items() if place[0] == "RefreshToken"}
    for place, secret in ours.items():
        if not ledger.perhaps[place] and shown.get(place) != secret:
            problems.append(f"a search shows {shown.get(place)} for {place}, not {secret}")

def expire(ledger, cache):
    '''The next search of whatever thread removes it.'''
    expired = dict(entry("expired"), credential_type="AccessToken", realm="tenant", target="s",
                   expires_on="1", secret="expired")
    cache.modify("AccessToken", expired, expired)

WORKS = [modify, remove, add, transact, fly, search]


# ---- the other threads

over = threading.Event()
longest = 0.0

def other(name, cache):
    global longest
    ledger = ledgers[name]
    works = [*WORKS, expire]
    try:
        while not over.is_set():
            work, begin = ledger.chance.choice(works), time.monotonic()
            work(ledger, cache)
            longest = max(longest, time.monotonic() - begin)
            found["calls of others"] += 1
            over.wait(ledger.chance.uniform(0, 0.004))
    except BaseException as error:
        problems.append(f"{name}: {work.__name__}: {error!r}")


# ---- the thread that is interrupted

armed = False

def handle(*_):
    global armed
    if armed:
        armed = False
        raise KeyboardInterrupt

def repeat(work):
    global armed
    armed = True
    signal.setitimer(signal.ITIMER_REAL, me.chance.uniform(1e-6, 4e-3))
    while armed:
        work(me, cache)

def interrupt(work):
    try:
        repeat(work)             # 3.13 leaves the end of a loop outside of a try
    except KeyboardInterrupt:
        found[work.__name__] += 1

def stored():
    with open(location) as file:
        content = json.load(file)
    return {(kind, item["home_account_id"]): item["secret"]
            for kind in ("AccessToken", "RefreshToken") for item in content.get(kind, {}).values()}

def descriptors():
    gc.collect()
    return len(os.listdir("/dev/fd"))

def in_a_thread(work):
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(GENEROUS)
    if thread.is_alive():
        problems.append(f"{work.__name__} in another thread is stuck")

signal.signal(signal.SIGALRM, handle)
names = {"one": cache, "two": cache, "three": another}
ledgers = {name: Ledger(name) for name in names}
me = Ledger("main")
for work in (*WORKS, expire):
    work(me, cache)
    work(me, another)
before = descriptors(), threading.active_count()
threads = [threading.Thread(target=other, args=item, daemon=True) for item in names.items()]
for thread in threads:
    thread.start()
for number in itertools.count():
    if number >= wanted and found["calls of others"] >= wanted:
        break
    begin = time.monotonic()
    try:
        interrupt(WORKS[number % len(WORKS)])
    except Exception as error:
        armed = False
        problems.append(f"main: {WORKS[number % len(WORKS)].__name__}: {error!r}")
    longest = max(longest, time.monotonic() - begin)
    found["interrupts"] += 1
    me.check(stored(), f"after interrupt {number}")
    if problems:
        break
over.set()
for thread in threads:
    thread.join(GENEROUS)
    if thread.is_alive():
        problems.append("a thread is stuck")

# ---- what is left

def gets_in_at_once():
    try:
        for each in (cache, another):
            if not each._lock.acquire(blocking=False):
                raise RuntimeError("somebody keeps MSAL's lock")
            each._lock.release()
            with each.transaction(timeout=0):
                pass
            with each.single_flight(timeout=0):
                pass
        for name in (location + ".lockfile", location + ".lockfile.refresh"):
            with CrossPlatLock(name, timeout=0):
                pass
    except BaseException as error:
        problems.append(f"not free: {error!r}")

def gets_in_too():
    gets_in_at_once()

if not any(thread.is_alive() for thread in threads):
    in_a_thread(gets_in_at_once)
    gets_in_too()
    at_last = stored()
    for ledger in (me, *ledgers.values()):
        ledger.check(at_last, "at the end")
    for each in (cache, another):
        shown = {("RefreshToken", item["home_account_id"]): item["secret"]
                 for item in each.search("RefreshToken")}
        if shown != {place: at_last[place] for place in at_last if place[0] != "AccessToken"}:
            problems.append("memory is not what is stored")
    deadline = time.monotonic() + GENEROUS  # a wait that was given up ends by itself
    while (descriptors(), threading.active_count()) > before and time.monotonic() < deadline:
        time.sleep(0.05)
    after = descriptors(), threading.active_count()
    if after > before:
        problems.append(f"descriptors and threads: {before}, now {after}")
print(json.dumps([found, longest, problems[:20]]))
"""


@requires("signal.setitimer")
def test_interrupts_at_random_moments_lose_nothing_and_leave_nobody_stuck(tmp_path: Path) -> None:
    found: Counter[str] = Counter()
    longest, said = 0.0, []
    for seed, begin in enumerate(range(0, INTERRUPTS, AT_A_TIME)):
        directory = tmp_path / str(seed)
        directory.mkdir()
        wanted = min(AT_A_TIME, INTERRUPTS - begin)
        done = python(CODE, str(directory), str(wanted), str(seed), check=False)
        assert done.returncode == 0, done.stderr
        counts, wait, problems = json.loads(done.stdout)
        tally.tried(counts["interrupts"])
        tally.lost(len(problems))
        assert problems == []
        assert os.listdir(directory) == ["cache.bin"]
        found.update(counts)
        longest = max(longest, wait)
        said.append(done.stderr)
    print(dict(found), f"longest {longest:.2f} s")
    print("".join(said))
    assert found["interrupts"] >= INTERRUPTS
    assert found["calls of others"] >= INTERRUPTS
