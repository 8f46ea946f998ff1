// An upstream that reads paths as Express does with its defaults: routes first, then files.
//
//   node express.mjs '{"port": 8000, "files": "/folder", "places": [["/goods/", "1000"], ["/one", "2000"]]}'
//
//   files   a folder whose files are served
//   places  what is at a path, or below one that ends with a slash; the first that matches answers

import express from "express";

const order = JSON.parse(process.argv[2]);
const app = express();
for (const [place, what] of order.places) {
  const answer = (_, response) => response.type("text").send(what);
  if (place.endsWith("/")) app.use(place, answer);
  else app.all(place, answer);
}
app.use(express.static(order.files));
app.listen(order.port, "127.0.0.1");
