const DAYS = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS = [
  "January",
  "February",
  "March",
  "April",
  "May",
  "June",
  "July",
  "August",
  "September",
  "October",
  "November",
  "December",
];

const two = (value: number): string => String(value).padStart(2, "0");
const hour12 = (date: Date): number => date.getHours() % 12 || 12;

const DIRECTIVES: Readonly<Record<string, (date: Date) => string>> = {
  Y: (date) => String(date.getFullYear()),
  y: (date) => two(date.getFullYear() % 100),
  m: (date) => two(date.getMonth() + 1),
  B: (date) => MONTHS[date.getMonth()] ?? "",
  b: (date) => (MONTHS[date.getMonth()] ?? "").slice(0, 3),
  d: (date) => two(date.getDate()),
  e: (date) => String(date.getDate()).padStart(2, " "),
  A: (date) => DAYS[date.getDay()] ?? "",
  a: (date) => (DAYS[date.getDay()] ?? "").slice(0, 3),
  H: (date) => two(date.getHours()),
  I: (date) => two(hour12(date)),
  M: (date) => two(date.getMinutes()),
  S: (date) => two(date.getSeconds()),
  p: (date) => (date.getHours() < 12 ? "AM" : "PM"),
  "%": () => "%",
};

/**
 * Python's `datetime.strftime` in the C locale, for the directives that templates use. "%-d" leaves out the leading zero.
 * Names are English wherever the server stands: a prompt does not follow the machine's language.
 * @throws Error naming a directive that is not known.
 */
export function strftime(date: Date, format: string): string {
  return format.replace(/%(-?)(.?)/gs, (directive, bare: string, letter: string) => {
    const write = Object.hasOwn(DIRECTIVES, letter) ? DIRECTIVES[letter] : undefined;
    if (write === undefined) throw new Error(`strftime_now knows no ${JSON.stringify(directive)}`);
    const text = write(date);
    return bare === "" ? text : text.replace(/^[0 ](?=.)/, "");
  });
}
