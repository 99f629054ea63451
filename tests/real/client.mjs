// A client on a TypeScript SDK, which shares no code with the Python one. Reads {package, folder, mode, url | command,
// answers, steps} from standard input and writes {protocol_version, outcomes} to standard output.
import { createRequire } from "node:module";
import { text } from "node:stream/consumers";

const talk = JSON.parse(await text(process.stdin));
const load = createRequire(`${talk.folder}/`);
const two = talk.package === "@modelcontextprotocol/client"; // the second major version; the first lays its files out otherwise
const { Client } = load(two ? talk.package : `${talk.package}/client/index.js`);
const { StreamableHTTPClientTransport } = load(two ? talk.package : `${talk.package}/client/streamableHttp.js`);
const { StdioClientTransport } = load(two ? `${talk.package}/stdio` : `${talk.package}/client/stdio.js`);
const { CreateMessageRequestSchema, ElicitRequestSchema, ListRootsRequestSchema } = two ? {} : load(`${talk.package}/types.js`);

const client = new Client(
  { name: "typescript", version: "1.0.0" },
  {
    capabilities: { sampling: {}, elicitation: { form: {}, url: {} }, roots: { listChanged: true } },
    versionNegotiation: { mode: talk.mode },
  },
);
const asked = {
  "sampling/createMessage": CreateMessageRequestSchema,
  "elicitation/create": ElicitRequestSchema,
  "roots/list": ListRootsRequestSchema,
};
for (const [method, schema] of Object.entries(asked)) {
  client.setRequestHandler(two ? method : schema, () => talk.answers[method]);
}

const calls = {
  "tools/list": (params, options) => client.listTools(params, options),
  "tools/call": (params, options) => client.callTool(params, ...(two ? [options] : [undefined, options])),
  "prompts/list": (params, options) => client.listPrompts(params, options),
  "prompts/get": (params, options) => client.getPrompt(params, options),
  "resources/list": (params, options) => client.listResources(params, options),
  "resources/templates/list": (params, options) => client.listResourceTemplates(params, options),
  "resources/read": (params, options) => client.readResource(params, options),
  "completion/complete": (params, options) => client.complete(params, options),
};

async function take({ method, params, progress: wanted }) {
  const progress = [];
  const options = wanted ? { onprogress: (message) => progress.push(message) } : {};
  try {
    return { result: await calls[method](params, options), progress };
  } catch ({ code, message, data }) {
    return { error: { code, message, data }, progress };
  }
}

await client.connect(
  talk.url
    ? new StreamableHTTPClientTransport(new URL(talk.url))
    : new StdioClientTransport({ command: talk.command[0], args: talk.command.slice(1) }),
);
const outcomes = [];
for (const step of talk.steps) {
  outcomes.push(await take(step));
}
// The first major version does not tell what it negotiated: it knows no newer revision.
const protocol_version = two ? client.getNegotiatedProtocolVersion() : "2025-11-25";
await client.close();
process.stdout.write(JSON.stringify({ protocol_version, outcomes }));
