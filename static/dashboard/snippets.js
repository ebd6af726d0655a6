// The request that the playground sends, as a command and as a program.

const PLACEHOLDER = "Hello";
const NO_MODEL = "llama3.2:3b"; // what the commands name while there is none to choose

/** The body of /api/chat for what is chosen; without a message yet, one stands in for it. */
export function chatBody({ model, system, messages, temperature, numCtx, priority }) {
  const options = {};
  if (temperature !== "") options.temperature = Number(temperature);
  if (numCtx !== "") options.num_ctx = Number(numCtx);
  return {
    model: model || NO_MODEL,
    messages: [...(system ? [{ role: "system", content: system }] : []), ...(messages.length ? messages : [{ role: "user", content: PLACEHOLDER }])],
    ...(Object.keys(options).length && { options }),
    ...(priority !== "" && { priority: Number(priority) }),
  };
}

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

export function curl(host, body, withKey) {
  const key = withKey ? " \\\n  -H \"Authorization: Bearer $SOLLOL_KEY\"" : "";
  return `curl ${host}/api/chat${key} \\\n  -d ${quoted(JSON.stringify(body, null, 2))}`;
}

/** Python's literals are JSON's but for three words, none of which can be in here outside of a text. */
const literal = (value) => JSON.stringify(value, null, 4);

export function python(host, body, withKey) {
  const headers = [
    ...(withKey ? ['"Authorization": f"Bearer {os.environ[\'SOLLOL_KEY\']}"'] : []),
    ...(body.priority ? [`"X-Sollol-Priority": "${body.priority}"`] : []),
  ];
  const told = headers.length ? `, headers={${headers.join(", ")}}` : "";
  const lines = [
    ...(withKey ? ["import os", ""] : []),
    "from ollama import Client",
    "",
    `client = Client(host=${JSON.stringify(host)}${told})`,
    "stream = client.chat(",
    `    model=${JSON.stringify(body.model)},`,
    `    messages=${literal(body.messages).replaceAll("\n", "\n    ")},`,
    ...(body.options ? [`    options=${JSON.stringify(body.options).replaceAll(":", ": ").replaceAll(",", ", ")},`] : []),
    "    stream=True,",
    ")",
    "for part in stream:",
    '    print(part.message.content, end="", flush=True)',
  ];
  return lines.join("\n");
}
