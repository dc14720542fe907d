// npm run build -- FOLDER: one script and one style sheet for each page, with the licences of what is in them.

import { build } from "esbuild";
import { mkdir, readFile, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";

const outdir = process.argv[2];
const { outputFiles } = await build({
  entryPoints: ["recording.js", "recording.css"],
  outdir,
  bundle: true,
  format: "iife",
  minify: true,
  legalComments: "none", // the whole texts stand at the top instead
  target: ["chrome103", "firefox113", "safari16.4"], // the first that decompress by themselves
  write: false,
});

// All that is installed but for building: packages hold parts of one another without saying so.
const { packages } = JSON.parse(await readFile("package-lock.json", "utf8"));
const folders = Object.keys(packages).filter((folder) => folder && !packages[folder].dev).sort();
const licences = await Promise.all(
  folders.map(async (folder) => {
    const file = (await readdir(folder)).find((each) => /^licen[cs]e/i.test(each));
    if (!file) throw new Error(`${folder} has no licence text`);
    const name = `${folder.replace(/.*node_modules\//, "")} ${packages[folder].version}`;
    return `${name}\n\n${(await readFile(join(folder, file), "utf8")).trim()}`;
  }),
);
const banner = `/*\n${licences.join("\n\n\n").replaceAll("*/", "* /").replaceAll("</", "< /")}\n*/\n`;

await mkdir(outdir, { recursive: true });
for (const { path, text } of outputFiles) {
  if (/<\/(script|style)|<!--/i.test(text)) throw new Error(`${path} cannot stand within a page`);
  await writeFile(path, path.endsWith(".js") ? banner + text : text); // the page has both
}
