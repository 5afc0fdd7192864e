// What the page says around the element, in the languages that the relay's messages have. The element has texts of its
// own. What a bank asks, and what the relay tells of a job, are shown as they come.

import { createTexts, nearestLocale } from "./basiq-job-progress/index.js";

const en = {
  skip: "Skip to the content",
  notices: "About your connections",
  language: "Language",
  choose: "Connect your bank",
  lead: "Choose a bank. Each of them plays a story, so that you can see what people would see.",
  footer: "An example on a sandbox: no real bank, no real money.",
  "story-works": "Everything works",
  "story-code": "Asks for a code",
  "story-questions": "Asks two questions",
  "story-twice": "Asks for a code, then a question",
  "story-wrong": "The password is wrong",
  "story-locked": "The account is locked",
  "story-needs-you": "The bank wants something first",
  "story-unavailable": "The bank cannot be reached",
  "story-outage": "The bank is down for everybody",
  answer: "Send answer",
  checking: "Checking…",
  hint: "In the sandbox {hint} is right, and anything else is wrong.",
  empty: "Please fill in everything.",
  "mfa-refused": "Your bank did not accept this answer.",
  "no-open-challenge": "Your bank does not ask this any more.",
  "being-answered": "Your answer is being checked already.",
  "upstream-failed": "We are not sure whether your answer arrived. If you are still asked in a moment, send it again.",
  "upstream-unavailable": "Your answer could not be sent. Please send it again.",
  wrong: "That did not work. Please try again in a moment.",
  gone: "We do not know this connection any more. Please choose your bank again.",
  doneAtBank: "I have done it, try again",
  bankSite: "Open {bank}",
  newTab: "opens in a new tab",
  logIn: "Connect again",
  loginId: "Login ID",
  password: "Password",
  support: "Contact support",
  reference: "Your reference: {id}",
  another: "Choose another bank",
  oneMore: "Connect another bank",
};

const zh = {
  skip: "跳到正文",
  notices: "关于您的银行连接",
  language: "语言",
  choose: "连接您的银行",
  lead: "请选择一家银行。每家银行演示一种情形，您可以看到用户会看到的内容。",
  footer: "沙盒示例：没有真实的银行，也没有真实的资金。",
  "story-works": "一切顺利",
  "story-code": "要求输入验证码",
  "story-questions": "提出两个问题",
  "story-twice": "先要验证码，再提一个问题",
  "story-wrong": "密码错误",
  "story-locked": "账户已锁定",
  "story-needs-you": "银行需要您先完成一些操作",
  "story-unavailable": "无法连接银行",
  "story-outage": "银行全面故障",
  answer: "提交回答",
  checking: "正在核对…",
  hint: "在沙盒中，正确的是：{hint}。其他都不正确。",
  empty: "请填写所有内容。",
  "mfa-refused": "您的银行未接受这个回答。",
  "no-open-challenge": "您的银行已不再询问这个问题。",
  "being-answered": "您的回答正在核对中。",
  "upstream-failed": "我们不确定您的回答是否已送达。如果稍后仍然询问，请再次提交。",
  "upstream-unavailable": "您的回答未能送出。请再次提交。",
  wrong: "操作未成功。请稍后再试。",
  gone: "我们已找不到这个连接。请重新选择您的银行。",
  doneAtBank: "我已完成，再试一次",
  bankSite: "打开 {bank}",
  newTab: "在新标签页中打开",
  logIn: "重新连接",
  loginId: "登录名",
  password: "密码",
  support: "联系客服",
  reference: "您的编号：{id}",
  another: "选择其他银行",
  oneMore: "再连接一家银行",
};

const vi = {
  skip: "Chuyển đến nội dung",
  notices: "Về các kết nối ngân hàng của quý vị",
  language: "Ngôn ngữ",
  choose: "Kết nối ngân hàng của quý vị",
  lead: "Vui lòng chọn một ngân hàng. Mỗi ngân hàng diễn một tình huống để quý vị thấy những gì người dùng sẽ thấy.",
  footer: "Ví dụ trên môi trường thử nghiệm: không có ngân hàng thật, không có tiền thật.",
  "story-works": "Mọi việc suôn sẻ",
  "story-code": "Yêu cầu nhập mã",
  "story-questions": "Hỏi hai câu",
  "story-twice": "Yêu cầu nhập mã, rồi hỏi một câu",
  "story-wrong": "Mật khẩu sai",
  "story-locked": "Tài khoản bị khóa",
  "story-needs-you": "Ngân hàng cần quý vị làm một việc trước",
  "story-unavailable": "Không thể kết nối với ngân hàng",
  "story-outage": "Ngân hàng ngừng hoạt động với tất cả khách hàng",
  answer: "Gửi câu trả lời",
  checking: "Đang kiểm tra…",
  hint: "Trong môi trường thử nghiệm, câu trả lời đúng là: {hint}. Mọi câu trả lời khác đều sai.",
  empty: "Vui lòng điền đầy đủ.",
  "mfa-refused": "Ngân hàng của quý vị không chấp nhận câu trả lời này.",
  "no-open-challenge": "Ngân hàng của quý vị không còn hỏi câu này nữa.",
  "being-answered": "Câu trả lời của quý vị đang được kiểm tra.",
  "upstream-failed": "Chúng tôi không chắc câu trả lời của quý vị đã đến nơi. Nếu lát nữa vẫn còn được hỏi, vui lòng gửi lại.",
  "upstream-unavailable": "Không gửi được câu trả lời của quý vị. Vui lòng gửi lại.",
  wrong: "Không thành công. Vui lòng thử lại sau giây lát.",
  gone: "Chúng tôi không còn biết kết nối này. Vui lòng chọn lại ngân hàng của quý vị.",
  doneAtBank: "Tôi đã làm xong, thử lại",
  bankSite: "Mở {bank}",
  newTab: "mở trong thẻ mới",
  logIn: "Kết nối lại",
  loginId: "Tên đăng nhập",
  password: "Mật khẩu",
  support: "Liên hệ bộ phận hỗ trợ",
  reference: "Mã tham chiếu của quý vị: {id}",
  another: "Chọn ngân hàng khác",
  oneMore: "Kết nối thêm một ngân hàng",
};

const ar = {
  skip: "الانتقال إلى المحتوى",
  notices: "حول اتصالاتك المصرفية",
  language: "اللغة",
  choose: "ربط مصرفك",
  lead: "يرجى اختيار مصرف. يعرض كل مصرف حالة مختلفة لرؤية ما سيظهر للمستخدمين.",
  footer: "مثال في بيئة تجريبية: لا مصرف حقيقيًا ولا أموال حقيقية.",
  "story-works": "كل شيء يعمل",
  "story-code": "يطلب رمزًا",
  "story-questions": "يطرح سؤالين",
  "story-twice": "يطلب رمزًا ثم يطرح سؤالًا",
  "story-wrong": "كلمة المرور غير صحيحة",
  "story-locked": "الحساب مقفل",
  "story-needs-you": "يطلب المصرف إجراءً أولًا",
  "story-unavailable": "يتعذر الوصول إلى المصرف",
  "story-outage": "المصرف معطل لدى الجميع",
  answer: "إرسال الإجابة",
  checking: "جارٍ التحقق…",
  hint: "الإجابة الصحيحة في البيئة التجريبية: {hint}، وما عداها غير صحيح.",
  empty: "يرجى ملء جميع الحقول.",
  "mfa-refused": "لم يقبل مصرفك هذه الإجابة.",
  "no-open-challenge": "لم يعد مصرفك يطرح هذا السؤال.",
  "being-answered": "يجري التحقق من إجابتك.",
  "upstream-failed": "لسنا متأكدين من وصول إجابتك. إذا ظل السؤال ظاهرًا بعد قليل، يرجى إرسالها مرة أخرى.",
  "upstream-unavailable": "تعذر إرسال إجابتك. يرجى إرسالها مرة أخرى.",
  wrong: "لم ينجح ذلك. يرجى المحاولة مرة أخرى بعد قليل.",
  gone: "لم يعد هذا الربط معروفًا لدينا. يرجى اختيار مصرفك من جديد.",
  doneAtBank: "تم الإجراء، المحاولة مرة أخرى",
  bankSite: "فتح {bank}",
  newTab: "يفتح في علامة تبويب جديدة",
  logIn: "الربط من جديد",
  loginId: "اسم الدخول",
  password: "كلمة المرور",
  support: "الاتصال بالدعم",
  reference: "رقمك المرجعي: {id}",
  another: "اختيار مصرف آخر",
  oneMore: "ربط مصرف آخر",
};

const TEXTS = { en, "zh-Hans": zh, vi, ar };
let texts = createTexts("en", en);

/** Has the page speak the first of these languages that there is; answers which. */
export function speak(wanted) {
  const locale = nearestLocale(wanted);
  texts = createTexts(locale, TEXTS[locale]);
  Object.assign(document.documentElement, { lang: locale, dir: texts.dir });
  document.querySelector("basiq-job-progress").lang = locale;
  for (const element of document.querySelectorAll("[data-text]")) element.textContent = t(element.dataset.text);
  return locale;
}

/** Whether there is such a text. */
export const knows = (key) => texts.has(key);

/** A text with its values: one of the page, or one of the element. */
export const t = (key, values) => texts.text(key, values);
