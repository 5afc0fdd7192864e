// The banks that the page offers: each plays a story of the sandbox, by its test users. In a real app people bring
// their own logins; these stay in the backend.

const HOOLI = { institution: "AU00000", name: "Hooli Bank" };
const PIED_PIPER = { institution: "AU00002", name: "Pied Piper Bank" };

/** `hint` is what the sandbox takes for right, to be shown where it is asked. */
export const BANKS = [
  { id: "works", ...HOOLI, loginId: "gavinBelson", password: "hooli2016" },
  { id: "code", ...PIED_PIPER, loginId: "jared", password: "django", hint: "1234" },
  { id: "questions", ...PIED_PIPER, loginId: "Whistler", password: "ShowBox", hint: "Basiq, AU00000" },
  { id: "twice", institution: "AU01004", name: "Careful Bank", loginId: "jared", password: "django", hint: "1234, Hooli" },
  { id: "wrong", ...HOOLI, loginId: "gavinBelson", password: "mistyped", hint: "gavinBelson, hooli2016" },
  { id: "locked", ...HOOLI, loginId: "bighead", password: "password" },
  { id: "needs-you", ...HOOLI, loginId: "erlich", password: "aviato" },
  { id: "unavailable", ...HOOLI, loginId: "jianYang", password: "nothotdog" },
  { id: "outage", institution: "AU00003", name: "Nucleus Bank", loginId: "gavinBelson", password: "hooli2016" },
];
