// Every request that octokit can make of GitHub's REST API, built and not sent; one JSON object a line.
// The values of a route's parameters are distinct, so that a reader can be held to each.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const load = createRequire(`${process.argv[2]}/`);
const { Octokit } = await import(pathToFileURL(load.resolve("octokit")).href);
const github = new Octokit();

// What the vendor takes with slashes and spaces in it.
const WITH_SLASH = /^(path|ref|branch|environment_name|basehead|tag)$/;

for (const [group, methods] of Object.entries(github.rest)) {
  for (const [name, method] of Object.entries(methods)) {
    const { method: verb, url } = method.endpoint.DEFAULTS;
    const names = [...url.matchAll(/\{([^?}]+)\}/g)].map((m) => m[1]);
    const values = Object.fromEntries(names.map((n, i) => [n, WITH_SLASH.test(n) ? `dir/a file ${i}` : `value-${i}`]));
    const request = method.endpoint({ ...values, title: "t", per_page: 5 });
    const body = request.body === undefined ? undefined : typeof request.body === "string" ? request.body : JSON.stringify(request.body);
    const headers = Object.fromEntries(Object.entries(request.headers).filter(([, v]) => v !== undefined));
    if (body !== undefined && !headers["content-type"]) headers["content-type"] = "application/json; charset=utf-8";
    console.log(JSON.stringify({ call: `${group}.${name}`, route: `${verb} ${url}`, values, request: { method: request.method, url: request.url, headers, body } }));
  }
}
