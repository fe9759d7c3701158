// Keeps the progress of the index current. Without JavaScript the page shows what it was when it was asked for.
const section = document.getElementById("progress");

async function look() {
  const now = await (await fetch("/progress")).json();
  const bar = section.querySelector("progress");
  bar.max = Math.max(now.files, 1);
  bar.value = now.indexed + now.unreadable;
  section.dataset.done = String(now.done);
  section.querySelector('[data-show="words"]').textContent = now.words;
  const jobs = Object.entries(now.jobs).filter(([, count]) => count > 0);
  section.querySelector('[data-show="jobs"]').textContent =
    "Jobs: " + jobs.map(([state, count]) => `${count} ${state}`).join(", ") + ".";
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
