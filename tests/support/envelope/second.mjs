// A second reader and writer of the format msalex-enc/1, made from docs/encrypted-file.md alone.
//
//     node second.mjs < orders.json > answers.json
//
// An order is {"do": "open", "content", "key", "name"} or {"do": "seal", "text", "key", "key_id",
// "source", "hints", "name", "file_id", "generation"}.  Contents and texts are base64, keys and file
// ids are hexadecimal.  The answer to a file that is refused is {"error": name}.
//
// The reader uses the other way of the document: it parses the JSON, writes the header anew, and
// compares.

import { createCipheriv, createDecipheriv, createHash, hkdfSync, randomBytes, timingSafeEqual }
  from "node:crypto";
import { readFileSync } from "node:fs";

const BLOCK = 1024;
const TAG = 16;
const SOURCES = ["given", "command", "file", "credential", "kernel"];

class Refused extends Error {}

function derive(key, salt, name) {
  const info = Buffer.concat([
    Buffer.from("msalex-enc/1 A256GCM"),
    createHash("sha256").update(name, "utf8").digest(),
  ]);
  const derived = Buffer.from(hkdfSync("sha512", key, salt, info, 64));
  return [derived.subarray(0, 32), derived.subarray(32)];
}

function lineOf({ key, source, hints, salt, commit }) {
  const bound = source === "kernel" ? { boot: hints.boot, userns: hints.userns } : {};
  return Buffer.from(`msalex-enc/1 ${JSON.stringify({
    suite: 1,
    key,
    source,
    hints: bound,
    salt: salt.toString("base64url"),
    commit: commit.toString("base64url"),
  })}\n`);
}

function headerOf(line) {
  let header;
  try {
    const read = JSON.parse(line.toString("latin1").slice("msalex-enc/1 ".length));
    header = {
      ...read,
      salt: Buffer.from(read.salt, "base64url"),
      commit: Buffer.from(read.commit, "base64url"),
    };
    const hints = header.source === "kernel" ? [header.hints.boot, header.hints.userns] : [];
    const isRight =
      header.salt.length === 32 &&
      header.commit.length === 32 &&
      SOURCES.includes(header.source) &&
      /^[A-Za-z0-9_-]{1,64}$/.test(header.key) &&
      hints.every((hint) => /^[A-Za-z0-9_-]{0,64}$/.test(hint)) &&
      lineOf(header).equals(line);
    if (isRight) return header;
  } catch (error) {
    if (!(error instanceof SyntaxError || error instanceof TypeError)) throw error;
  }
  throw new Refused("EncryptedFileDamaged");
}

function open(content, key, name) {
  const beginning = content.subarray(0, 4096).toString("latin1");
  if (!beginning.startsWith("msalex-enc/") && !"msalex-enc/".startsWith(beginning))
    throw new Refused("NotEncrypted");
  const number = /^msalex-enc\/(?:1 \{"suite":(\d{1,9}),|(\d{1,9}) )/.exec(beginning);
  const digits = number ? number[1] ?? number[2] : "1";
  if (Number(digits) > 1 && !digits.startsWith("0")) throw new Refused("EncryptedFileUnknown");
  const line = content.subarray(0, beginning.indexOf("\n") + 1);
  const header = headerOf(line);
  const size = content.length - line.length - TAG;
  if (size < BLOCK || size % BLOCK !== 0) throw new Refused("EncryptedFileDamaged");

  const [fileKey, commit] = derive(key, header.salt, name);
  if (!timingSafeEqual(commit, header.commit)) throw new Refused("KeyWrong");
  const cipher = createDecipheriv("aes-256-gcm", fileKey, Buffer.alloc(12));
  cipher.setAAD(line);
  cipher.setAuthTag(content.subarray(-TAG));
  const plaintext = cipher.update(content.subarray(line.length, -TAG));
  try {
    cipher.final();
  } catch {
    throw new Refused("EncryptedFileDamaged");
  }
  const end = 32n + plaintext.readBigUInt64BE(24);
  if ((end + 1023n) / 1024n !== BigInt(plaintext.length / BLOCK))
    throw new Refused("EncryptedFileDamaged");
  if (plaintext.subarray(Number(end)).some((byte) => byte !== 0))
    throw new Refused("EncryptedFileDamaged");
  return {
    text: plaintext.subarray(32, Number(end)).toString("base64"),
    file_id: plaintext.subarray(0, 16).toString("hex"),
    generation: plaintext.readBigUInt64BE(16).toString(),
    key_id: header.key,
    source: header.source,
    hints: header.hints,
  };
}

function seal(text, order) {
  const key = Buffer.from(order.key, "hex");
  const salt = randomBytes(32);
  const [fileKey, commit] = derive(key, salt, order.name);
  const line = lineOf({ ...order, key: order.key_id, salt, commit });
  const plaintext = Buffer.alloc(Math.ceil((32 + text.length) / BLOCK) * BLOCK);
  Buffer.from(order.file_id, "hex").copy(plaintext, 0);
  plaintext.writeBigUInt64BE(BigInt(order.generation), 16);
  plaintext.writeBigUInt64BE(BigInt(text.length), 24);
  text.copy(plaintext, 32);
  const cipher = createCipheriv("aes-256-gcm", fileKey, Buffer.alloc(12));
  cipher.setAAD(line);
  return Buffer.concat([line, cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]);
}

function answer(order) {
  if (order.do === "seal")
    return { content: seal(Buffer.from(order.text, "base64"), order).toString("base64") };
  try {
    const content = Buffer.from(order.content, "base64");
    return open(content, Buffer.from(order.key, "hex"), order.name);
  } catch (error) {
    if (error instanceof Refused) return { error: error.message };
    throw error;
  }
}

process.stdout.write(JSON.stringify(JSON.parse(readFileSync(0, "utf8")).map(answer)));
