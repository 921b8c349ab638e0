"""Looks of the report: readable on a telephone, on a dark screen and on paper; no font or file from elsewhere."""

STYLE = """
:root{color-scheme:light dark;--ground:#f6f7f9;--card:#fff;--ink:#1b1f24;--soft:#5b6472;--line:#dfe3e8;--accent:#0b62a4;
--stripe:#f8fafc;--warn:#b42318;--warn-ground:#fef3f2}
@media (prefers-color-scheme:dark){:root{--ground:#0f1216;--card:#171b21;--ink:#e6e9ee;--soft:#a0a9b6;--line:#2b323c;
--accent:#6db7f2;--stripe:#1b2028;--warn:#ff9c92;--warn-ground:#3a1d1b}}
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--ink);
font:16px/1.6 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
main{max-width:72rem;margin:0 auto;padding:2.2rem 1.1rem 3rem}
header h1{font-size:clamp(1.5rem,4vw,2.2rem);line-height:1.2;margin:0;letter-spacing:-.015em}
header p{margin:.35rem 0 1.6rem;color:var(--soft)}
section{background:var(--card);border:1px solid var(--line);border-radius:14px;padding:1.15rem 1.35rem 1.3rem;
margin:0 0 1.15rem}
h2{font-size:1.05rem;margin:0 0 .7rem}
.lead{border-left:4px solid var(--accent);padding-left:1rem;max-width:65rem}
.lead p{margin:.45rem 0}
.table{overflow-x:auto;margin:.2rem 0 .6rem}
.table:focus-visible{outline:2px solid var(--accent);outline-offset:3px;border-radius:6px}
.table+.table,.note+.table,details .table{margin-top:1.4rem}
table{border-collapse:collapse;width:100%;font-size:.92rem}
caption{text-align:left;color:var(--soft);padding:0 0 .55rem;font-size:.88rem}
caption span{display:inline-block;max-width:min(100%,calc(100vw - 5.2rem))}
th,td{padding:.42rem .7rem;text-align:left;border-bottom:1px solid var(--line);vertical-align:top}
thead th{font-weight:600;color:var(--soft);border-bottom:2px solid var(--line);white-space:nowrap}
tbody th{font-weight:600;white-space:nowrap}
tbody tr:nth-child(even){background:var(--stripe)}
.num{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.mark{color:var(--warn);background:var(--warn-ground);border-radius:999px;padding:.05rem .5rem;font-size:.78rem;
font-weight:600}
.note{color:var(--soft);font-size:.88rem;margin:.35rem 0 0;max-width:65rem;overflow-wrap:anywhere}
.plot{min-height:420px;min-width:0;overflow:hidden}
.gallery{margin:0;background:#fff;border-radius:10px;padding:.6rem;overflow-x:auto}
.gallery img{display:block;width:min(100%,70rem);min-width:34rem;height:auto}
summary{cursor:pointer;color:var(--accent);font-weight:600}
footer{color:var(--soft);font-size:.85rem;padding:0 .3rem}
@media print{:root{--ground:#fff;--card:#fff;--ink:#000;--soft:#444;--line:#bbb;--stripe:#fff}
main{max-width:none;padding:0}section{border:0;padding:.3rem 0;break-inside:avoid}.table{overflow:visible}
.gallery img{min-width:0}.modebar{display:none!important}}
"""

#: Unpacks plotly.js, which is gzip in base64 in the page itself, then draws each figure into the element before it.
SCRIPT = """
(async function(){
const figures=document.querySelectorAll('script.figure');
if(!figures.length)return;
try{
const packed=Uint8Array.from(atob(document.getElementById('plotly').textContent),sign=>sign.charCodeAt(0));
const stream=new Blob([packed]).stream().pipeThrough(new DecompressionStream('gzip'));
const library=document.createElement('script');
library.textContent=await new Response(stream).text();
document.head.append(library);
}catch(error){
figures.forEach(figure=>{figure.previousElementSibling.textContent=
'The curves need a browser of 2023 or later; the tables hold their end points. ('+error+')'});
return}
figures.forEach(async figure=>{
const plot=figure.previousElementSibling,drawn=JSON.parse(figure.textContent);
await Plotly.newPlot(plot,drawn.data,drawn.layout,{responsive:true,displayModeBar:false});
const paint=()=>Plotly.relayout(plot,{'font.color':getComputedStyle(document.body).getPropertyValue('--soft').trim()});
paint();
matchMedia('(prefers-color-scheme: dark)').addEventListener('change',paint)})})();
"""
