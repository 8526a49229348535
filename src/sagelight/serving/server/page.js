"use strict";
(() => {
  const find = (selector) => document.querySelector(selector);
  const main = find("main"), status = find("#status"), result = find("#result"), button = find("#explain");
  const explains = main.dataset.explain === "true", most = Number(main.dataset.most);
  let photo = null, turn = 0, best = "";

  const say = (text, wrong = false) => {
    status.textContent = text;
    status.classList.toggle("wrong", wrong);
  };

  const show = (image, source) => {
    if (image.src.startsWith("blob:")) URL.revokeObjectURL(image.src);
    image.src = URL.createObjectURL(source);
  };

  const ask = async (path) => {
    const type = photo.type.startsWith("image/") ? photo.type : "application/octet-stream";
    let response;
    try {
      response = await fetch(path, { method: "POST", body: photo, headers: { "Content-Type": type } });
    } catch {
      throw new Error("The server does not answer. Is it still running?");
    }
    if (response.ok) return response;
    const reason = await response.json().then((answer) => answer.error).catch(() => response.statusText);
    throw new Error(`Not answered: ${reason}`);
  };

  const percent = (share) => (share >= 0.9995 && share < 1 ? "> 99.9 %" : `${(100 * share).toFixed(1)} %`);

  const row = ({ label, confidence }) => {
    const item = document.createElement("li");
    const line = document.createElement(explains ? "button" : "div");
    line.className = "row";
    for (const [tag, kind, text] of [["span", "name", label], ["span", "share", percent(confidence)]]) {
      const part = document.createElement(tag);
      part.className = kind;
      part.textContent = text;
      line.append(part);
    }
    const track = document.createElement("i"), bar = document.createElement("b");
    track.append(bar);
    line.append(track);
    requestAnimationFrame(() => { bar.style.width = `${100 * confidence}%`; });
    if (explains) {
      line.type = "button";
      line.dataset.label = label;
      line.addEventListener("click", () => heat(label));
    }
    item.append(line);
    return item;
  };

  const choose = async (file) => {
    const mine = ++turn;
    photo = file;
    main.classList.add("has-photo");
    find("#heat").hidden = true;
    find("#hint").hidden = true;
    if (file.size > most) {
      result.hidden = true;
      say(`${file.name} has ${(file.size / 2 ** 20).toFixed(1)} MB; this server takes ${(most / 2 ** 20).toFixed(1)} MB. `
        + "Choose a smaller photo, or start the server with a larger max_body_bytes.", true);
      return;
    }
    say("Asking …");
    const begun = performance.now();
    try {
      const answer = await (await ask("invocations")).json();
      if (mine !== turn) return;
      show(find("#photo img"), file);
      find("#photo figcaption").textContent = file.name;
      best = answer.label;
      find("#label").textContent = answer.label;
      find("#labels").replaceChildren(...answer.top.map(row));
      button.hidden = !explains;
      result.hidden = false;
      say(`Answered in ${Math.round(performance.now() - begun)} ms.`);
    } catch (error) {
      if (mine !== turn) return;
      result.hidden = true;
      say(error.message, true);
    }
  };

  const heat = async (label) => {
    const mine = turn;
    button.disabled = true;
    say(`Hiding parts of the photo, one by one, to see what “${label}” rests on …`);
    try {
      const picture = await (await ask(`explain?label=${encodeURIComponent(label)}`)).blob();
      if (mine !== turn) return;
      const image = find("#heat img");
      show(image, picture);
      image.alt = `Heat map of what the label ${label} rests on`;
      find("#heat figcaption").textContent =
        `What “${label}” rests on: the darker the red, the more it loses when that part is hidden. Grey parts do not matter to it. `
        + "This is the square that the network sees.";
      for (const line of document.querySelectorAll("button.row"))
        line.setAttribute("aria-pressed", String(line.dataset.label === label));
      find("#heat").hidden = false;
      find("#heat").scrollIntoView({ block: "nearest", behavior: "smooth" });
      find("#hint").hidden = false;
      button.hidden = true;
      say("");
    } catch (error) {
      if (mine === turn) say(error.message, true);
    } finally {
      button.disabled = false;
    }
  };

  button.addEventListener("click", () => heat(best));
  find("#file").addEventListener("change", ({ target }) => {
    if (target.files.length) choose(target.files[0]);
    target.value = "";
  });
  addEventListener("dragover", (event) => { event.preventDefault(); main.classList.add("over"); });
  addEventListener("dragleave", (event) => { if (!event.relatedTarget) main.classList.remove("over"); });
  addEventListener("drop", (event) => {
    event.preventDefault();
    main.classList.remove("over");
    if (event.dataTransfer.files.length) choose(event.dataTransfer.files[0]);
  });
  addEventListener("paste", (event) => { if (event.clipboardData.files.length) choose(event.clipboardData.files[0]); });
  const command = find("#command");
  command.textContent = command.textContent.replace(/http\S+\/invocations/, new URL("invocations", location.href).href);
})();
