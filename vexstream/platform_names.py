"""Names that everybody writes in a script, for they are those of the platform: of JavaScript, of
Node.js, of browsers' documents and events (ECMA-262, DOM, HTML, UI Events, CSSOM View)."""

_LANGUAGE = b"""
__proto__ arguments assign boolean byteLength callee captureStackTrace charAt charCodeAt
codePointAt concat console constructor create default defineProperties defineProperty delete
description endsWith entries enumerable errors exitCode filter findIndex flatMap forEach freeze
fromCharCode fromEntries function getOwnPropertyDescriptor getOwnPropertyNames
getOwnPropertySymbols getPrototypeOf getTime global hasOwnProperty ignoreCase includes indexOf
isArray isBuffer isFinite isInteger isPrototypeOf isSafeInteger iterator lastIndex lastIndexOf
length localeCompare message module multiline nextTick normalize number object padEnd padStart
parseFloat parseInt platform process propertyIsEnumerable prototype random reduce reduceRight
reject repeat replace replaceAll require resolve return reverse search setPrototypeOf source
splice startsWith stderr stdout string stringify substr substring symbol toFixed toISOString
toLocaleString toLowerCase toString toStringTag toUpperCase trimEnd trimStart unshift valueOf
values
"""
_NODES = b"""
activeElement adoptNode anchorOffset append appendChild attributes before checkbox checked
childElementCount childNodes children classList className cloneNode closest
compareDocumentPosition compatMode contains contentDocument contentEditable contentWindow cookie
createComment createDocumentFragment createElement createElementNS createEvent createRange
createTextNode cssText dataset defaultChecked defaultValue defaultView disabled document
documentElement documentMode documentURI domain elements firstChild firstElementChild focusNode
fragment getAttribute getAttributeNode getAttributeNS getElementById getElementsByClassName
getElementsByName getElementsByTagName getSelection hasAttribute hasAttributes hasChildNodes
hasFocus hidden httpEquiv implementation importNode innerHTML innerText insertAdjacentElement
insertAdjacentHTML insertBefore isContentEditable lastChild lastElementChild maxLength multiple
namespaceURI nextElementSibling nextSibling nodeName nodeType nodeValue noValidate option options
outerHTML ownerDocument ownerSVGElement parentElement parentNode placeholder prepend
previousElementSibling previousSibling querySelector querySelectorAll readonly readOnly readyState
remove removeAttribute removeAttributeNS removeChild replaceChild replaceWith required scripts
select selected selectedIndex selectedOptions selectionEnd selectionStart setAttribute
setAttributeNS setSelectionRange shadowRoot tabIndex tabindex tagName textContent
"""
_EVENTS = b"""
addEventListener addListener altKey animationend attachEvent beforeunload bubbles button buttons
cancel cancelable cancelBubble canplay changedTouches charCode clientX clientY clipboardData
compositionend compositionstart contextmenu ctrlKey currentTarget CustomEvent dataTransfer
dblclick defaultPrevented deltaMode deltaX deltaY detachEvent detail dispatchEvent
DOMContentLoaded dragend dragenter dragleave dragover dragstart fireEvent focusin focusout
fromElement getModifierState hashchange initCustomEvent initEvent isDefaultPrevented
isPropagationStopped isTrusted keyCode keydown keypress loadend loadstart metaKey mousedown
mouseenter mouseleave mousemove mouseout mouseover mouseup mousewheel movementX movementY
MutationObserver offsetX offsetY onchange onclick onerror onload onmessage onreadystatechange
orientationchange originalEvent pageXOffset pageYOffset pointercancel pointerdown pointerenter
pointerId pointerleave pointermove pointerout pointerover pointerType pointerup popstate
preventDefault progress relatedTarget removeEventListener removeListener resize returnValue
screenX screenY scroll selectionchange selectstart shiftKey srcElement stopImmediatePropagation
stopPropagation submit target targetTouches timeStamp toElement touchcancel touchend touches
touchmove touchstart transitionend unload visibilitychange wheelDelta wheelDeltaX wheelDeltaY
"""
_WINDOW = b"""
addRange animate animation assign background backgroundColor border borderWidth boundingClientRect
cancelAnimationFrame canvas clearInterval clearTimeout clientHeight clientLeft clientTop
clientWidth collapsed confirm createObjectURL currentStyle cursor decodeURIComponent
devicePixelRatio display encodeURIComponent fontFamily fontSize fontWeight frames
getBoundingClientRect getClientRects getComputedStyle getContext getItem getPropertyValue
getRangeAt height history hostname innerHeight innerWidth language lineHeight localStorage
location margin marginLeft marginTop matches matchMedia maxHeight maxWidth minHeight minWidth
msMatchesSelector naturalHeight naturalWidth navigator offset offsetHeight offsetLeft offsetParent
offsetTop offsetWidth opacity origin outerHeight outerWidth overflow overflowX overflowY padding
paddingLeft paddingTop pathname performance pointerEvents position postMessage protocol pushState
rangeCount reload removeAllRanges removeItem removeProperty replaceState requestAnimationFrame
responseText responseType responseXML script scrollHeight scrollIntoView scrollLeft scrollTo
scrollTop scrollWidth scrollX scrollY sessionStorage setInterval setItem setProperty
setRequestHeader setTimeout status statusText styleSheet styleSheets toggle transform transition
translate userAgent vendor version viewport visibility visible webkit webkitMatchesSelector
webkitRequestAnimationFrame whiteSpace withCredentials zIndex
"""
OF_PLATFORM = frozenset(map(hash, b" ".join((_LANGUAGE, _NODES, _EVENTS, _WINDOW)).split()))
"""In the numbers of ``script_strings.traces``."""
