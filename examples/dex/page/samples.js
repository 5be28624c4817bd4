// Documents to begin with.

const HANDBOOK = `# Handbook

How we work, for those who have just come.

## Mornings
The first one in makes coffee and opens the windows. Who comes later says good morning, and nobody
minds if that is at eleven.

## Meetings
A meeting has a question. When it is answered, the meeting is over, whatever the calendar says.
Notes are written while people talk, and everybody can correct them.

- Ask before you invite more than five people.
- Say no when you are not needed.

## Leaving
Close the windows, and take one thing to the kitchen.
`;

const PRICES = `sku,name,price,stock
A-1,Rye loaf,3.20,14
A-2,Wheat loaf,2.90,22
B-1,Poppy roll,0.60,120
B-2,Sesame roll,0.60,87
C-1,Plum cake,18.00,3
C-2,Cheese cake,21.50,2
`;

const REPORT = `<!doctype html>
<html lang="en"><head><title>Report</title></head><body>
<h1>The river, this spring</h1>
<p>It rose on the third of March, two days before the thaw, and stood at the second mark for a week.</p>
<h2>What we measured</h2>
<ul><li>Depth at the weir: 2.4 m</li><li>At the bridge: 3.1 m</li></ul>
<h2>What we did</h2>
<p>The lower meadow was left to it, as every year. The mill was shut for four days.</p>
</body></html>
`;

const good = [
  new File([HANDBOOK], "handbook.md", { type: "text/markdown" }),
  new File([PRICES], "prices.csv", { type: "text/csv" }),
  new File([REPORT], "report.html", { type: "text/html" }),
];
const broken = new File(["PK\x03\x04 and then nothing that is a document"], "broken.docx");

export const SAMPLES = { good, mixed: [...good, broken], single: [good[0]], broken: [broken] };
