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
const top=drawn.layout.xaxis;
if(top&&top.side==='top'&&plot.clientWidth<700){top.tickangle=-40;top.ticktext=top.ticktext.map(text=>text.replace('<br>',' '));drawn.layout.margin.t=90}
await Plotly.newPlot(plot,drawn.data,drawn.layout,{responsive:true,displayModeBar:false});
const paint=()=>Plotly.relayout(plot,{'font.color':getComputedStyle(document.body).getPropertyValue('--soft').trim()});
paint();
matchMedia('(prefers-color-scheme: dark)').addEventListener('change',paint)})})();
