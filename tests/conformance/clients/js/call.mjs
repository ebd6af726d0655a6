// Calls one method of ollama-js and prints how it ended as JSON: node call.mjs HOST METHOD [ARGUMENT]
import { Ollama } from "ollama";

const [host, method, argument] = process.argv.slice(2);
const ollama = new Ollama({ host });
// The library logs on standard output; that is kept for the result.
console.log = console.error;

async function result() {
  const answer = await ollama[method](...(argument ? [JSON.parse(argument)] : []));
  if (!answer[Symbol.asyncIterator]) return answer;
  const pieces = [];
  for await (const piece of answer) pieces.push(piece);
  return pieces;
}

const ended = await result().then(
  (value) => ({ value }),
  ({ name, message, status_code: status }) => ({ error: { name, message, status } }),
);
process.stdout.write(JSON.stringify(ended));
