// Signs as GitHub does, by GitHub's own library: SECRET and BODY are arguments, and the header's value is printed.
import { pathToFileURL } from "node:url";

const [modules, secret, body] = process.argv.slice(2);
const library = `${modules}/@octokit/webhooks-methods/dist-node/index.js`;
const { sign } = await import(pathToFileURL(library).href);
process.stdout.write(await sign(secret, body));
