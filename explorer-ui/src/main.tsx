import { render } from "preact";
import { App } from "./app";
import { watchTitle } from "./situation";
import { start } from "./state";
import { watchTheme } from "./theme";
import "./style.css";
import "./network.css";
import "./operate.css";
import "./peer.css";
import "./way.css";

watchTheme();
const root = document.getElementById("page");
if (root !== null) render(<App />, root);
start();
watchTitle();
