// A drawing to begin with: the plan of a floor, and a revision of it on a sheet that slipped.

const WIDTH = 1800;
const HEIGHT = 1200;

const ROOMS = [
  ["Kitchen", 140, 120, 460, 380],
  ["Living room", 600, 120, 1060, 520],
  ["Bath", 140, 500, 300, 260],
  ["Bedroom", 140, 760, 460, 320],
  ["Study", 1120, 640, 540, 440],
];

/** Draw a revision on a canvas. */
export function draw(canvas, { revision }) {
  [canvas.width, canvas.height] = [WIDTH, HEIGHT];
  const pen = canvas.getContext("2d");
  pen.fillStyle = "#fff";
  pen.fillRect(0, 0, WIDTH, HEIGHT);
  pen.translate(...(revision === 1 ? [0, 0] : [7, -5]));
  pen.strokeStyle = pen.fillStyle = "#111";

  pen.lineWidth = 10;
  pen.strokeRect(140, 120, 1520, 960);
  pen.lineWidth = 6;
  for (const [name, x, y, width, height] of ROOMS) {
    if (name === "Study" && revision === 2) continue; // made part of the living room
    pen.strokeRect(x, y, width, height);
    label(pen, name, x + width / 2, y + height / 2, `${(width / 100).toFixed(1)} × ${(height / 100).toFixed(1)} m`);
  }
  door(pen, 440, 500, 1);
  door(pen, 310, 760, -1);
  for (const x of [760, 1100, 1440]) windowAt(pen, x, 120);
  stairs(pen, 640, 720);
  table(pen, 720, 320);
  if (revision === 2) {
    door(pen, 1060, 640, 1);
    windowAt(pen, 1440, 1080);
    table(pen, 1400, 860);
    label(pen, "Dining", 1180, 900, "open");
  }
  pen.font = "24px sans-serif";
  pen.textAlign = "left";
  pen.fillText(`Ground floor, revision ${revision}`, 150, 1140);
  pen.setTransform(1, 0, 0, 1, 0, 0);
}

function label(pen, name, x, y, size) {
  pen.textAlign = "center";
  pen.font = "30px sans-serif";
  pen.fillText(name, x, y);
  pen.font = "22px sans-serif";
  pen.fillText(size, x, y + 34);
}

function door(pen, x, y, side) {
  pen.save();
  pen.lineWidth = 3;
  pen.beginPath();
  pen.moveTo(x, y);
  pen.lineTo(x, y - 80 * side);
  pen.stroke();
  pen.beginPath();
  pen.arc(x, y, 80, side > 0 ? -Math.PI / 2 : 0, side > 0 ? 0 : Math.PI / 2);
  pen.stroke();
  pen.restore();
}

function windowAt(pen, x, y) {
  pen.save();
  pen.lineWidth = 3;
  pen.clearRect(x, y - 8, 140, 16);
  pen.fillStyle = "#fff";
  pen.fillRect(x, y - 8, 140, 16);
  pen.strokeRect(x, y - 8, 140, 16);
  pen.restore();
}

function stairs(pen, x, y) {
  pen.save();
  pen.lineWidth = 3;
  for (let step = 0; step < 9; step++) pen.strokeRect(x + 40 * step, y, 40, 150);
  pen.restore();
}

function table(pen, x, y) {
  pen.save();
  pen.lineWidth = 3;
  pen.strokeRect(x, y, 200, 110);
  for (const [dx, dy] of [[40, -30], [160, -30], [40, 140], [160, 140]]) {
    pen.beginPath();
    pen.arc(x + dx, y + dy, 20, 0, 2 * Math.PI);
    pen.stroke();
  }
  pen.restore();
}
