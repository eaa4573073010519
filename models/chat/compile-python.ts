import { existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { compiledArchive, pyodideFolder, readPython } from "./python-archive.js";

/** The last step of `npm run build`: compiles Python's library and Jinja, where that has not been done. */
const archive = compiledArchive();
if (!existsSync(archive)) {
  const { loadPyodide } = await import("pyodide");
  const python = await loadPyodide({ indexURL: pyodideFolder() });
  python.FS.mkdir("/in");
  python.FS.writeFile("/in/library.zip", readFileSync(join(pyodideFolder(), "python_stdlib.zip")));
  for (const name of ["jinja2.zip", "chat_template.py", "content_parts.py", "compile_python.py"])
    python.FS.writeFile(`/in/${name}`, readPython(name));
  python.runPython(`
    import sys
    sys.path += ["/in", "/in/jinja2.zip"]
    import chat_template
    import compile_python
    compile_python.pack(["/in/library.zip", "/in/jinja2.zip"], "/in/compiled.zip")
  `);
  const temporary = `${archive}.${process.pid}`;
  writeFileSync(temporary, python.FS.readFile("/in/compiled.zip"));
  renameSync(temporary, archive);
}
