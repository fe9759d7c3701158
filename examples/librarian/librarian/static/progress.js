// Keeps the progress of the index current. Without JavaScript the page shows what it was when it was asked for.
const section = document.getElementById("progress");

async function look() {
  const now = await (await fetch("/progress")).json();
  const bar = section.querySelector("progress");
  bar.max = Math.max(now.files, 1);
  bar.value = now.indexed + now.unreadable;
  section.dataset.done = String(now.done);
  for (const place of section.querySelectorAll("[data-show]")) {
    place.textContent = now[place.dataset.show];
  }
  const busy = now.jobs.queued || now.jobs.running || now.jobs.scheduled;
  return busy || !now.done ? 1000 : 10000;
}

async function keepLooking() {
  let pause = 3000;
  try {
    pause = await look();
  } catch {
    // The server is away just now.
  }
  setTimeout(keepLooking, pause);
}

if (section) keepLooking();
