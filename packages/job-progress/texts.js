// What the element says, in the languages of the relay's messages. `{bank}` and `{time}` are filled in.

const en = {
  running: "Connecting to {bank}",
  "needs-user": "One more step for {bank}",
  success: "{bank} is connected",
  failed: "{bank} is not connected",
  delayed: "{bank} needs more time",
  ended: "The connection to {bank} was stopped",
  bank: "your bank",
  left: "About {time} left",
  soon: "Nearly done",
  usual: "This usually takes less than a minute.",
  progress: "Progress",
  stepOf: "{name}: {word}",
  "step-starting": "Reach your bank",
  "step-verify-credentials": "Log in to your bank",
  "step-mfa-challenge": "Security check",
  "step-retrieve-accounts": "Get your accounts",
  "step-retrieve-transactions": "Get your transactions",
  "step-retrieve-statements": "Get your statements",
  "is-pending": "Waiting",
  "is-in-progress": "In progress",
  "is-success": "Done",
  "is-failed": "Did not work",
  "is-skipped": "Not needed",
  "is-later": "Not yet",
  "is-never": "Not started",
  timer: "{time} left to answer",
  hurry: "Half a minute is left to answer.",
  expired: "The time to answer is over.",
  "answer-mfa": "Answer your bank",
  "resubmit-credentials": "Enter the login again",
  "resolve-at-bank": "I have done it, try again",
  reauthorise: "Connect again",
  "provide-statement": "Choose another statement",
  retry: "Try again",
  retryIn: "Try again in {time}",
  "contact-support": "Contact support",
  closable: "You can close this page.",
  lost: "The connection to us is lost. We are trying to get it back…",
  found: "The connection to us is back.",
  gone: "The progress cannot be shown any more. Please load this page again.",
};

const zh = {
  running: "正在连接 {bank}",
  "needs-user": "{bank} 还需一步验证",
  success: "{bank} 已连接",
  failed: "{bank} 未能连接",
  delayed: "{bank} 需要更多时间",
  ended: "与 {bank} 的连接已停止",
  bank: "您的银行",
  left: "大约还需 {time}",
  soon: "即将完成",
  usual: "通常不到一分钟。",
  progress: "进度",
  stepOf: "{name}：{word}",
  "step-starting": "联系您的银行",
  "step-verify-credentials": "登录您的银行",
  "step-mfa-challenge": "安全验证",
  "step-retrieve-accounts": "获取您的账户",
  "step-retrieve-transactions": "获取您的交易记录",
  "step-retrieve-statements": "获取您的对账单",
  "is-pending": "等待中",
  "is-in-progress": "进行中",
  "is-success": "已完成",
  "is-failed": "未成功",
  "is-skipped": "不需要",
  "is-later": "尚未成功",
  "is-never": "未开始",
  timer: "剩余 {time}",
  hurry: "还有半分钟可以回答。",
  expired: "回答时间已过。",
  "answer-mfa": "回答银行的问题",
  "resubmit-credentials": "重新输入登录信息",
  "resolve-at-bank": "我已完成，再试一次",
  reauthorise: "重新连接",
  "provide-statement": "选择其他对账单",
  retry: "再试一次",
  retryIn: "{time} 后可以再试",
  "contact-support": "联系客服",
  closable: "您可以关闭此页面。",
  lost: "与我们的连接已断开。正在尝试恢复…",
  found: "与我们的连接已恢复。",
  gone: "无法继续显示进度。请重新加载此页面。",
};

const vi = {
  running: "Đang kết nối với {bank}",
  "needs-user": "Thêm một bước cho {bank}",
  success: "Đã kết nối với {bank}",
  failed: "Chưa kết nối được với {bank}",
  delayed: "{bank} cần thêm thời gian",
  ended: "Kết nối với {bank} đã dừng",
  bank: "ngân hàng của quý vị",
  left: "Còn khoảng {time}",
  soon: "Sắp xong",
  usual: "Thường mất chưa đến một phút.",
  progress: "Tiến độ",
  stepOf: "{name}: {word}",
  "step-starting": "Liên hệ với ngân hàng",
  "step-verify-credentials": "Đăng nhập vào ngân hàng",
  "step-mfa-challenge": "Kiểm tra bảo mật",
  "step-retrieve-accounts": "Lấy thông tin tài khoản",
  "step-retrieve-transactions": "Lấy các giao dịch",
  "step-retrieve-statements": "Lấy các bản sao kê",
  "is-pending": "Đang chờ",
  "is-in-progress": "Đang tiến hành",
  "is-success": "Xong",
  "is-failed": "Không thành công",
  "is-skipped": "Không cần",
  "is-later": "Chưa được",
  "is-never": "Chưa bắt đầu",
  timer: "Còn {time} để trả lời",
  hurry: "Còn nửa phút để trả lời.",
  expired: "Đã hết thời gian trả lời.",
  "answer-mfa": "Trả lời ngân hàng",
  "resubmit-credentials": "Nhập lại thông tin đăng nhập",
  "resolve-at-bank": "Tôi đã làm xong, thử lại",
  reauthorise: "Kết nối lại",
  "provide-statement": "Chọn bản sao kê khác",
  retry: "Thử lại",
  retryIn: "Thử lại sau {time}",
  "contact-support": "Liên hệ bộ phận hỗ trợ",
  closable: "Quý vị có thể đóng trang này.",
  lost: "Mất kết nối với chúng tôi. Đang thử kết nối lại…",
  found: "Đã kết nối lại với chúng tôi.",
  gone: "Không thể hiển thị tiến độ nữa. Vui lòng tải lại trang này.",
};

const ar = {
  running: "جارٍ الربط مع {bank}",
  "needs-user": "خطوة إضافية لدى {bank}",
  success: "تم الربط مع {bank}",
  failed: "لم يتم الربط مع {bank}",
  delayed: "يحتاج {bank} إلى مزيد من الوقت",
  ended: "توقف الربط مع {bank}",
  bank: "مصرفك",
  left: "يتبقى نحو {time}",
  soon: "على وشك الانتهاء",
  usual: "يستغرق ذلك عادةً أقل من دقيقة.",
  progress: "التقدم",
  stepOf: "{name}: {word}",
  "step-starting": "الاتصال بمصرفك",
  "step-verify-credentials": "تسجيل الدخول إلى مصرفك",
  "step-mfa-challenge": "التحقق الأمني",
  "step-retrieve-accounts": "جلب حساباتك",
  "step-retrieve-transactions": "جلب معاملاتك",
  "step-retrieve-statements": "جلب كشوف حساباتك",
  "is-pending": "في الانتظار",
  "is-in-progress": "جارٍ التنفيذ",
  "is-success": "تم",
  "is-failed": "لم ينجح",
  "is-skipped": "غير مطلوب",
  "is-later": "لم ينجح بعد",
  "is-never": "لم يبدأ",
  timer: "يتبقى {time} للإجابة",
  hurry: "يتبقى نصف دقيقة للإجابة.",
  expired: "انتهى وقت الإجابة.",
  "answer-mfa": "الرد على المصرف",
  "resubmit-credentials": "إدخال بيانات الدخول من جديد",
  "resolve-at-bank": "تم الإجراء، المحاولة مرة أخرى",
  reauthorise: "الربط من جديد",
  "provide-statement": "اختيار كشف حساب آخر",
  retry: "المحاولة مرة أخرى",
  retryIn: "المحاولة مرة أخرى بعد {time}",
  "contact-support": "الاتصال بالدعم",
  closable: "يمكنك إغلاق هذه الصفحة.",
  lost: "انقطع الاتصال بنا. تجري محاولة استعادته…",
  found: "عاد الاتصال بنا.",
  gone: "لم يعد من الممكن عرض التقدم. يرجى إعادة تحميل هذه الصفحة.",
};

const TEXTS = { en, "zh-Hans": zh, vi, ar };

/** The languages there are. */
export const LOCALES = Object.keys(TEXTS);

/** The first of these languages that there is; `en` if there is none. */
export function nearestLocale(wanted) {
  for (const tag of wanted) {
    if (/^zh(?!-(Hant|TW|HK|MO))/i.test(tag)) return "zh-Hans";
    const language = tag.split("-")[0].toLowerCase();
    if (Object.hasOwn(TEXTS, language)) return language;
  }
  return "en";
}

/** The texts of a language, some of them replaced by `labels`, with the formats of their values. */
export function createTexts(wanted, labels = {}) {
  const locale = nearestLocale([wanted]);
  const texts = { ...TEXTS[locale], ...labels };
  // names keep a direction of their own among Arabic words
  const isolated = (value) => (locale === "ar" ? `\u2068${value}\u2069` : value);
  const number = (options) => new Intl.NumberFormat(locale, options);
  return {
    locale,
    dir: locale === "ar" ? "rtl" : "ltr",
    has: (key) => Object.hasOwn(texts, key),
    text: (key, values = {}) => String(texts[key]).replace(/\{(\w+)\}/g, (all, name) => (name in values ? isolated(values[name]) : all)),
    /** A length of time in words: `7 seconds`. */
    inWords(seconds) {
      const [value, unit] = seconds < 90 ? [seconds, "second"] : [Math.round(seconds / 60), "minute"];
      return number({ style: "unit", unit, unitDisplay: "long" }).format(value);
    },
    /** A length of time as a clock shows it: `1:05`. */
    asClock: (seconds) => `${number().format(Math.floor(seconds / 60))}:${number({ minimumIntegerDigits: 2 }).format(seconds % 60)}`,
  };
}
