// The same as tests/support/contender.py, with the CrossPlatformLock of
// @azure/msal-node-extensions itself.
//
//     node contender.mjs JSON                             (NODE_LOCK: URL of the lock's file)
import fs from "node:fs";
import readline from "node:readline";

const { CrossPlatformLock } = await import(process.env.NODE_LOCK);
const RETRY_MS = 100; // the package's own pause; told.patience gives the number of tries
const told = JSON.parse(process.argv[2]);
const logger = { info() {}, warning() {}, error() {} };
const journal = fs.openSync(told.journal, "a", 0o600);
const errors = {};
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const now = () => process.hrtime.bigint(); // CLOCK_MONOTONIC, as in Python
const note = (what) => fs.writeSync(journal, `${what} 0 ${now()}\n`);
const among = ([low, high]) => 1000 * (low + Math.random() * (high - low));

async function visit() {
    const options = { retryNumber: Math.round(among(told.patience) / RETRY_MS), retryDelay: RETRY_MS };
    const lock = new CrossPlatformLock(told.path, logger, options);
    note("?");
    try {
        await lock.lock();
    } catch (error) {
        note("!");
        if (!/amount of retries/.test(error.message)) {
            errors[error.message] = (errors[error.message] ?? 0) + 1;
        }
        return;
    }
    note("+");
    await sleep(among(told.hold));
    note("-");
    await lock.unlock();
}

console.log("ready");
const lines = readline.createInterface(process.stdin);
const line = await new Promise((resolve) => lines.once("line", resolve));
const [start, stop] = line.split(" ").map(BigInt);
await sleep(Math.max(0, Number(start - now()) / 1e6));
await sleep(among(told.think)); // so that they do not all begin at the same moment
while (now() < stop) {
    await visit();
    await sleep(among(told.think));
}
console.log(JSON.stringify({ errors, descriptors: 0, threads: 0 }));
process.exit(0);
