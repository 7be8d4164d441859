// Before anything is painted: the theme somebody has chosen, else that of the system.
"use strict";
document.documentElement.dataset.theme = localStorage.getItem("theme") || "system";
