// The CrossPlatformLock of @azure/msal-node-extensions itself.  section.py explains the output.
//
//     node node.mjs LOCKFILE DIRECTORY ENTRIES PAUSE_MS    (NODE_LOCK: URL of the lock's file)
import fs from "node:fs";
import path from "node:path";
import readline from "node:readline";

const { CrossPlatformLock } = await import(process.env.NODE_LOCK);
const HOLD_MS = 10;
const [lockfile, directory, wanted, pause] = process.argv.slice(2);
const logger = { info() {}, warning() {}, error() {} };
const me = `node.${process.pid}`;
const marker = path.join(directory, "inside", me);
const log = { kind: "node", entries: [], seen: [], longest: 0, gave_up: 0 };
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const now = () => process.hrtime.bigint(); // CLOCK_MONOTONIC, as in Python

async function verdict(lock) {
    try {
        const opened = await lock.lockFileHandle.stat();
        return opened.ino === fs.lstatSync(lockfile).ino ? "" : "orphan";
    } catch {
        return "orphan";
    }
}

async function visit() {
    const before = now();
    const lock = new CrossPlatformLock(lockfile, logger);
    try {
        await lock.lock();
    } catch (error) {
        log.gave_up += 1;
        return;
    }
    const start = now();
    log.longest = Math.max(log.longest, Number(start - before) / 1e9);
    let how = await verdict(lock);
    fs.closeSync(fs.openSync(marker, "wx"));
    log.seen.push(...fs.readdirSync(path.dirname(marker)).filter((other) => other !== me));
    await sleep(HOLD_MS);
    fs.unlinkSync(marker);
    how = how || ((await verdict(lock)) && "lost");
    log.entries.push([Number(start), Number(now()), how]);
    await lock.unlock();
}

console.log("ready");
await new Promise((resolve) => readline.createInterface(process.stdin).once("line", resolve));
while (log.entries.length < Number(wanted)) {
    await visit();
    await sleep(Math.random() * 2 * Number(pause));
}
console.log(JSON.stringify(log));
process.exit(0);
